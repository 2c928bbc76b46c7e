"""Params at which a gradient decays at a wanted rate, found by measuring."""
