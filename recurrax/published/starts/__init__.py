"""Gradients at the start: spectra, critical gains, and mean-field theory."""
