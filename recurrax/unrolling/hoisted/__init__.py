"""The fast engine for gated cells; `engine.py` is where to begin reading."""

from recurrax.unrolling.hoisted.engine import auto_engine, check_gated, hoisted_engine

__all__ = ["auto_engine", "check_gated", "hoisted_engine"]
