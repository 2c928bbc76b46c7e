"""The fast engine for gated cells; `engine.py` is where to begin reading."""

from recurrax.unrolling.gated.engine import check_gated, hoisted_engine

__all__ = ["check_gated", "hoisted_engine"]
