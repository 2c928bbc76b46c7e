"""Clipping makes gradients that are too large smaller before they are used."""
