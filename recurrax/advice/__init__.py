"""Advice on a start: the cures that fit a cell, tried on data, measured, ranked and proven."""
