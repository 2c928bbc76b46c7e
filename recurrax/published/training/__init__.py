"""Claims of publications that train, each for minutes."""
