"""Numbers of any size: log-scaled arrays, and linear algebra that keeps what is small."""
