"""Cells somewhere in a tree of modules: found by the names of their leaves, and put there."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np

    from recurrax.interop.layouts.candidates import Prefix
    from recurrax.interop.layouts.layers import Direction, Layer


class Group(NamedTuple):
    """The leaves of one cell."""

    prefix: str  # the path of its module, as the source writes it
    kind: str
    sources: dict[str, np.ndarray]  # by their names in the source
    path: str  # of the module, with a slash after every word
    leaves: dict[str, np.ndarray]  # by the same names with slashes: path, then leaf


def groups(
    arrays: Mapping[str, np.ndarray], kinds: Mapping[str, tuple[str, str]]
) -> Iterator[Group]:
    """Each path under which there are the leaves of one kind, and nothing else.

    Args:
      arrays: by their names, with slashes or dots between the words.
      kinds: by kind the leaves it must have and those it may have, with blanks between them.
    """
    below: dict[tuple[str, ...], dict[str, str]] = {}
    for name in arrays:
        words = tuple(re.split(r"[/.]", name.removesuffix(":0")))
        words = words[:-1] if words[-1] == "value" else words  # of a variable of nnx
        for depth in range(1, len(words) + 1):
            below.setdefault(words[:-depth], {})["/".join(words[-depth:])] = name
    for words, names in below.items():
        for kind, (needed, possible) in kinds.items():
            if set(needed.split()) <= set(names) <= {*needed.split(), *possible.split()}:
                separator = "/" if any("/" in name for name in names.values()) else "."
                path = "".join(f"{word}/" for word in words)
                leaves = {f"{path}{leaf}": arrays[name] for leaf, name in names.items()}
                sources = {name: arrays[name] for name in names.values()}
                yield Group(separator.join(words), kind, sources, path, leaves)


def last_word(group: Group) -> str:
    """What the module of a cell is called: `lstm_1`."""
    return group.path.rstrip("/").rpartition("/")[2]


def places(
    to: str,
    layers: Sequence[Layer],
    prefix: Prefix | None,
    automatic: Callable[[str, int], str] = "{}_{}".format,
) -> list[tuple[str, Direction]]:
    """Where each cell goes, layer by layer, forward before backward.

    Args:
      to: who asks, as messages name it.
      layers: from bottom to top.
      prefix: the path of the only cell; or one for each layer, a pair where it has two directions.
      automatic: `automatic(cell, number)`, the name that the library itself gives to a cell of a
        name in `recurrax.cells.CELLS`, when there are `number` of it already.

    Raises:
      ValueError: if the prefixes are not those of these layers.
    """
    cells = [[side for side in layer[:2] if side is not None] for layer in layers]
    if prefix is None:
        seen: Counter[str] = Counter()
        named = []
        for side in [side for row in cells for side in row]:
            name = automatic(side.cell, 0)  # which two kinds of a vanilla cell may share
            named.append((automatic(side.cell, seen[name]), side))
            seen[name] += 1
        return named
    given = [prefix] if isinstance(prefix, str) else list(prefix)
    paths = [[one] if isinstance(one, str) else list(one) for one in given]
    if [len(row) for row in paths] != [len(row) for row in cells]:
        raise ValueError(
            f"prefix of {to} must be the path of each of the {len(cells)} layers, from bottom to "
            f"top, and a pair (forward, backward) where it has both directions; got {prefix!r}"
        )
    rows = zip(paths, cells, strict=True)
    return [pair for row in rows for pair in zip(*row, strict=True)]


def nested(flat: Mapping[str, Any], *, numbers: bool = False) -> dict[Any, Any]:
    """Dicts in dicts, from names with slashes; numbers among the words as such if asked for."""
    tree: dict[Any, Any] = {}
    for name, array in flat.items():
        words = [int(word) if numbers and word.isdigit() else word for word in name.split("/")]
        place = tree
        for word in words[:-1]:
            place = place.setdefault(word, {})
        place[words[-1]] = array
    return tree
