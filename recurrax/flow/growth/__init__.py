"""How fast the directions of a trajectory grow."""
