"""A claim is measured: its rows, and the seconds they took."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax

from recurrax.published.claim import Claim, Row


class NoRowsError(TypeError):
    """What a claim measures is no rows."""


class Reproduced(NamedTuple):
    """What was measured of one claim."""

    claim: Claim
    rows: tuple[Row, ...]
    seconds: float  # with what was compiled

    def count(self, verdict: str) -> int:
        """How many rows have this verdict."""
        return sum(row.verdict == verdict for row in self.rows)


def measured(claim: Claim) -> Reproduced:
    """Measure a claim, in its own precision whatever the user's configuration is.

    Raises:
      TypeError: if it is no claim, or what it measures is no rows.
    """
    if not isinstance(claim, Claim):
        raise TypeError(
            f"a claim must be a rx.published.Claim or the name of one, got {type(claim).__name__}"
        )
    start = time.perf_counter()
    with jax.enable_x64(claim.float64):
        found: Any = claim.measure()
        rows = tuple(found) if hasattr(found, "__iter__") else ()
    seconds = time.perf_counter() - start
    if isinstance(found, Row) or not rows or not all(isinstance(row, Row) for row in rows):
        raise NoRowsError(
            f"measure() of claim {claim.name!r} must give rows, made by compared, stated or "
            f"not_comparable; got {found!r}"
        )
    return Reproduced(claim, rows, seconds)
