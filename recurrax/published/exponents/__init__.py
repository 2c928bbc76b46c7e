"""Exponents of flows, maps and networks, and what Newton's method makes of them."""
