"""The gated idea: a cell made of an elementwise function of its units, and what is known of it."""
