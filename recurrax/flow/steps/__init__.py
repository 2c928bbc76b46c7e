"""One step of a measured network: what is posed, its state as a vector, its Jacobian."""
