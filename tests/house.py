"""How large the package is, and how far one has to walk in it.

    python -m tests.house

Prints the figures below beside what they may be at most, and fails where one is exceeded. A limit
goes down with its figure; it goes up with what the package can do and not before, and its row says
for what. Lines are those of all `.py` files under `recurrax/`, with docstrings and blank lines. A
chain is a sequence of modules each of which imports the next when it is imported itself (a package
is a module too, and a name that only a type checker reads is no import). A walk is the files of
some rooms whose functions run in one call: what someone opens who wants to know what happens there.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grimp

import recurrax as rx
from recurrax.cli.app import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(rx.__file__).parent
KERNEL = "unrolling/kernel/"


class Figure(NamedTuple):
    """One figure, what it may be at most, and what it is made of."""

    name: str
    found: int
    of: str  # a key of MOST
    parts: list[str]

    def __str__(self) -> str:
        return f"{self.name}: {self.found}, at most {MOST[self.of]}"


# --- sizes ---------------------------------------------------------------------------------------


def lines() -> dict[str, int]:
    """The lines of each file, by its place in the package."""
    return {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(ROOT.rglob("*.py"))
    }


def sizes() -> list[Figure]:
    of = lines()
    without = {name: count for name, count in of.items() if not name.startswith(KERNEL)}
    rooms: dict[str, int] = {}
    for name, count in without.items():
        room = name.partition("/")[0] if "/" in name else "."
        rooms[room] = rooms.get(room, 0) + count
    largest = max(of, key=of.__getitem__)
    names = [Path(name).name for name in of if not name.endswith("__init__.py")]
    twice = sorted({name for name in names if names.count(name) > 1})
    parts = [f"{room} {count}" for room, count in sorted(rooms.items())]
    return [
        Figure("lines without the kernel", sum(without.values()), "lines", parts),
        Figure("lines of the largest file", of[largest], "file", [largest]),
        Figure("file names that occur twice", len(twice), "twice", twice),
    ]


# --- imports -------------------------------------------------------------------------------------


def imports() -> dict[str, set[str]]:
    """What each module imports when it is imported."""
    graph = grimp.build_graph("recurrax", exclude_type_checking_imports=True, cache_dir=None)
    of = {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}
    of["recurrax.cli.app"] |= {kind.partition(":")[0] for kind in COMMANDS.values()}  # by name
    return of


def longest_chain(of: dict[str, set[str]]) -> list[str]:
    """The longest chain of imports.

    Raises:
      ValueError: if modules import each other in a circle.
    """
    on_the_way: list[str] = []

    @cache
    def below(name: str) -> tuple[str, ...]:
        if name in on_the_way:
            circle = " -> ".join([*on_the_way[on_the_way.index(name) :], name])
            raise ValueError(f"modules import each other in a circle: {circle}")
        on_the_way.append(name)
        longest = max((below(other) for other in sorted(of[name])), key=len, default=())
        on_the_way.pop()
        return (name, *longest)

    return list(max((below(name) for name in sorted(of)), key=len))


# --- walks ---------------------------------------------------------------------------------------


def files_run(call: Callable[[], Any]) -> set[str]:
    """The files of the package whose functions run in a call."""
    found: set[str] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            found.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return {Path(f).relative_to(ROOT).as_posix() for f in found if f.startswith(f"{ROOT}/")}


def walks() -> list[Figure]:
    """Each is a first call, in which everything is traced."""
    import jax
    import jax.numpy as jnp
    import optax

    cell = rx.cells.lstm(3, 8)
    given = (cell, params := cell.init(jax.random.key(0)), cell.initial_state(params))
    given = (*given, jnp.ones((12, 3)))
    task = rx.tasks.adding(5)
    small = rx.cells.gru(task.input_size, 4)

    def loss(params: Any) -> Any:
        return rx.unroll(cell, params, *given[2:])[1].sum()

    train = rx.train  # imported here, so that class bodies are no part of the walk

    def fit() -> None:
        train.fit(small, task, optax.adam(1e-3), key=jax.random.key(0), steps=4, progress=False)

    calls: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
        "rx.unroll with a gradient": (lambda: jax.grad(loss)(params), ("gated/", "unrolling/")),
        "rx.flow.decay": (lambda: rx.flow.decay(*given), ("flow/",)),
        "rx.flow.lyapunov": (lambda: rx.flow.lyapunov(*given), ("flow/",)),
        "rx.flow.gradient_map": (lambda: rx.flow.gradient_map(*given), ("flow/",)),
        "rx.train.fit": (fit, ("train/",)),
    }
    figures = []
    for name, (call, rooms) in calls.items():
        files = sorted(f for f in files_run(call) if f.startswith(rooms))
        figures.append(Figure(f"files that {name} runs through", len(files), name, files))
    return figures


MOST = {
    # 20,150 before converters and cells of other libraries (3,400), diagnosis (2,200), and masks,
    # layers and directions in `flow` (900). Then calibration, advice with its command, published
    # numbers with theirs, truncation and networks of one's own in `fit` (6,050).
    "lines": 32_700,
    "file": 350,
    "twice": 10,
    "chain": 17,  # 14 before the converters; advice stands on training, a start on measuring
    "rx.unroll with a gradient": 10,
    "rx.flow.decay": 6,
    "rx.flow.lyapunov": 7,
    "rx.flow.gradient_map": 8,
    "rx.train.fit": 10,  # 7 before networks of one's own and truncation
}


def figures() -> list[Figure]:
    chain = longest_chain(imports())
    return [
        *sizes(),
        Figure("modules of the longest chain", len(chain), "chain", chain),
        *walks(),
    ]


def main() -> None:
    exceeded = []
    for figure in figures():
        over = figure.found > MOST[figure.of]
        exceeded += [figure.name] if over else []
        print(f"{figure}{'  EXCEEDED' if over else ''}")
        print(f"    {', '.join(figure.parts)}")
    if exceeded:
        raise SystemExit(f"exceeded: {'; '.join(exceeded)}")


if __name__ == "__main__":
    main()
