"""The smallest set of values that must be kept so that the rest can be computed again.

Between values that are lost and values that are wanted, keep the fewest bytes that separate them:
a minimum vertex cut, by the max-flow min-cut theorem of Ford and Fulkerson (1956), with shortest
augmenting paths (Edmonds and Karp, 1972). The graphs have some dozens of vertices.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

V = TypeVar("V", bound="Hashable")
Capacity: TypeAlias = "dict[Hashable, dict[Hashable, float]]"

_SOURCE, _SINK = "source", "sink"


def minimum_cut(
    edges: Iterable[tuple[V, V]],
    size: Mapping[V, float],
    lost: Iterable[V],
    wanted: Iterable[V],
) -> set[V]:
    """The vertices of least total size whose removal separates the lost from the wanted.

    Args:
      edges: pairs (from, to): `to` is computed from `from`.
      size: of each vertex; a vertex of size 0 may be removed for nothing, an infinite one never.
      lost: vertices that paths begin at; they may be in the cut themselves.
      wanted: vertices that paths end at; they too.

    Returns:
      The cut nearest to the wanted ones, where several are as small.

    Example:
      >>> sorted(minimum_cut([("z", "a"), ("a", "b"), ("a", "c")],
      ...                    {"z": 4, "a": 1, "b": 1, "c": 1}, ["z"], ["b", "c"]))
      ['a']
    """
    infinite = 1.0 + sum(amount for amount in size.values() if amount < math.inf)
    capacity: Capacity = {_SOURCE: {}, _SINK: {}}

    def connect(a: Hashable, b: Hashable, amount: float) -> None:
        capacity.setdefault(a, {})[b] = amount
        capacity.setdefault(b, {}).setdefault(a, 0.0)

    for v, amount in size.items():
        connect(("in", v), ("out", v), min(amount, infinite))
    for a, b in edges:
        connect(("out", a), ("in", b), infinite)
    for v in lost:
        connect(_SOURCE, ("in", v), infinite)
    for v in wanted:
        connect(("out", v), _SINK, infinite)
    while path := _path(capacity):
        amount = min(capacity[tail][head] for tail, head in path)
        for tail, head in path:
            capacity[tail][head] -= amount
            capacity[head][tail] += amount
    reaches = _reaches_sink(capacity)
    return {v for v in size if ("out", v) in reaches and ("in", v) not in reaches}


def _path(capacity: Capacity) -> list[tuple[Hashable, Hashable]]:
    """The shortest path from source to sink with capacity left, as edges; empty for none."""
    before: dict[Hashable, Hashable] = {_SOURCE: _SOURCE}  # and so: which were reached
    queue: deque[Hashable] = deque([_SOURCE])
    while queue and _SINK not in before:
        a = queue.popleft()
        for b, amount in capacity[a].items():
            if amount > 0 and b not in before:
                before[b] = a
                queue.append(b)
    path: list[tuple[Hashable, Hashable]] = []
    at: Hashable = _SINK
    while at in before and at != _SOURCE:
        path.append((before[at], at))
        at = before[at]
    return path


def _reaches_sink(capacity: Capacity) -> set[Hashable]:
    found: set[Hashable] = {_SINK}
    queue: deque[Hashable] = deque([_SINK])
    while queue:
        b = queue.popleft()
        for a in capacity[b]:
            if a not in found and capacity[a][b] > 0:
                found.add(a)
                queue.append(a)
    return found
