"""The experiments that `recurrax compare --experiment NAME` repeats: one row each."""

from __future__ import annotations

from typing import Any, NamedTuple


class Experiment(NamedTuple):
    """A question, and the options that answer it."""

    question: str
    options: dict[str, Any]


EXPERIMENTS: dict[str, Experiment] = {}
