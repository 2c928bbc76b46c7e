"""The fast engine for gated cells; `engine.py` is where to begin reading."""

from recurrax.unrolling.hoisted.engine import first_not_gated, hoisted_engine

__all__ = ["first_not_gated", "hoisted_engine"]
