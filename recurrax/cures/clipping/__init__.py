"""Gradients that are too large, made smaller before they are used."""
