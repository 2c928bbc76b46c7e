"""Cures for a gradient that explodes. So far: clipping by a norm that cannot overflow."""

from recurrax.cures.clip import ClipState, clip_by_global_norm

__all__ = ["ClipState", "clip_by_global_norm"]
