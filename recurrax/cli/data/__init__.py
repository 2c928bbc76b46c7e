"""Real data from a file, as sequences `[T, B, I]`."""
