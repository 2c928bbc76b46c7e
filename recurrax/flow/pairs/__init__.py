"""Derivatives between every two times."""
