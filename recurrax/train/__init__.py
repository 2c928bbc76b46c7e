"""The training loop, its checkpoints and its log: the place is kept, nothing is public yet."""
