"""Numbers that were published, measured again: `recurrax reproduce`.

A claim is a name, its source, and a function that measures its rows. A new one is a function in
the file of its subject and a row of `CLAIMS` here.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

from recurrax.published import baselines
from recurrax.published.claim import VERDICTS as VERDICTS
from recurrax.published.claim import Claim, Row, Tolerance, compared, not_comparable, stated
from recurrax.published.exponents import (
    chaotic_flows,
    chaotic_maps,
    linear_maps,
    newton,
    random_networks,
)
from recurrax.published.measured import Reproduced, measured
from recurrax.published.memory import curse_of_memory, fisher_memory, memory_capacity, real_time
from recurrax.published.starts import gains, mean_field, origin
from recurrax.published.training import bai, chrono, hochreiter, pascanu
from recurrax.words import first_line, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "Claim",
    "Reproduced",
    "Row",
    "Tolerance",
    "compared",
    "get",
    "names",
    "not_comparable",
    "reproduce",
    "stated",
]

# By name, in the order in which they are measured; those that train for minutes come last. Their
# modules load no Optax before they measure.
CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        chaotic_flows.EXPONENTS,
        chaotic_flows.OBSERVERS,
        chaotic_flows.STEPS,
        newton.STEPS,
        chaotic_maps.MAPS,
        chaotic_maps.LORENZ,
        linear_maps.LINEAR,
        random_networks.RATE_NETWORKS,
        random_networks.FORGET_BIASES,
        mean_field.TIED,
        mean_field.MINIMAL,
        origin.AT_THE_ORIGIN,
        gains.GAINS,
        curse_of_memory.CURSE,
        fisher_memory.FISHER,
        memory_capacity.CAPACITY,
        real_time.RTRL,
        baselines.BASELINES,
        chaotic_flows.FLOW_STEPS,
        hochreiter.ADDS,
        hochreiter.TELLS_ORDER,
        pascanu.TELLS_ORDER,
        bai.COPIES,
        chrono.COPIES,
    )
}


def names(*, long: bool = False) -> tuple[str, ...]:
    """The names of the claims, in the order in which they are measured.

    Args:
      long: also of those that take minutes.

    Example:
      >>> import recurrax as rx
      >>> rx.published.names()[0], len(rx.published.names(long=True)) >= len(rx.published.names())
      ('chaotic-flows', True)
    """
    return tuple(name for name, claim in CLAIMS.items() if long or not claim.long)


def get(name: str) -> Claim:
    """A claim by its name.

    Args:
      name: one of `rx.published.names(long=True)`, or `module:NAME` of a claim of one's own.

    Raises:
      ValueError: if there is no such claim, with the nearest name.

    Example:
      >>> import recurrax as rx
      >>> rx.published.get("chaotic-flows").source.partition(",")[0]
      'Gonzalez et al.'
    """
    if name in CLAIMS:
        return CLAIMS[name]
    if ":" not in name:
        raise ValueError(unknown("claim", name, CLAIMS))
    try:
        found = pkgutil.resolve_name(name)
    except Exception as error:  # what stands in a file of the user's may fail in any way
        what = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"there is no claim {name!r}: {what}") from None
    if not isinstance(found, Claim):
        raise ValueError(f"{name} must be a rx.published.Claim, got {type(found).__name__}")
    return found


def reproduce(
    claims: Iterable[str | Claim] | None = None,
    *,
    long: bool = False,
    tell: Callable[[Reproduced], None] | None = None,
) -> list[Reproduced]:
    """Measure the numbers of publications, and say of each whether it agrees.

    A number that differs is a result and raises nothing.

    Args:
      claims: names of `rx.published.names(long=True)`, or claims of one's own; in this order, each
        once. What is named is measured, however long it takes. None for all that take seconds.
      long: with `claims=None` also those that take minutes.
      tell: called with each result as soon as it is there.

    Returns:
      What was found of each claim: its rows, and the seconds that it took.

    Raises:
      ValueError: if there is no claim of a name, with the nearest, before anything is measured.
      TypeError: if `claims` is one name and no list, or what a claim measures is no rows.

    Example:
      >>> import recurrax as rx
      >>> def lengths():  # of the diagonals of the unit square and of the unit cube
      ...     yield rx.published.compared("square", 1.41, 2**0.5, rx.published.Tolerance("absolute", 0.01))
      ...     yield rx.published.compared("cube", 1.8, 3**0.5, rx.published.Tolerance("absolute", 0.01))
      >>> mine = rx.published.Claim("diagonals", "how long they are", "a book", "exact", lengths)
      >>> (found,) = rx.published.reproduce([mine])
      >>> [(row.what, row.verdict) for row in found.rows]
      [('square', 'agrees'), ('cube', 'differs')]
    """  # noqa: E501
    if isinstance(claims, (str, Claim)):
        raise TypeError(f"claims must be a list of names or claims, got {claims!r}: put it in [ ]")
    chosen = names(long=long) if claims is None else claims
    unique = dict.fromkeys(get(claim) if isinstance(claim, str) else claim for claim in chosen)
    results = []
    for claim in unique:
        results.append(measured(claim))
        if tell is not None:
            tell(results[-1])
    return results
