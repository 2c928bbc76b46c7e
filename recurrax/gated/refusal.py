"""The one exception by which an engine says no."""

from __future__ import annotations


class Refusal(NotImplementedError):
    """A known reason why an engine does not run a step; its text says which.

    Raised at the places that know of one and caught where an engine is chosen. Any other exception
    of an engine's analysis is a fault and is not caught: behind `engine="auto"`, which turns to a
    slower engine, it would never be seen.
    """
