"""What every converter shares: layers in the library's own layout, found, chosen and built."""
