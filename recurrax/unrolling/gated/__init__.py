"""The fast engine for gated cells; `engine.py` is where to begin reading."""
