"""No random key serves two purposes: every split, fold and draw of a call is looked at.

The keys are of a generator of this file's own, which computes what threefry does and writes down
what is asked of it, also inside compiled loops.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend import random as generators

import recurrax as rx
from recurrax import keys

_SEEN: list[tuple] = []  # (what, the key, the keys that come of it)


def _told(what):
    def note(words, children):
        rows = np.asarray(children).reshape(-1, 2).tolist()
        _SEEN.append((what, tuple(np.asarray(words).tolist()), tuple(map(tuple, rows))))

    return note


def _plain(words):
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def _split(words, shape):
    children = jax.random.key_data(jax.random.split(_plain(words), shape))
    jax.debug.callback(_told("split"), words, children)
    return children


def _fold_in(words, number):
    child = jax.random.key_data(jax.random.fold_in(_plain(words), number))
    jax.debug.callback(_told("fold"), words, child)
    return child


def _bits(words, width, shape):
    jax.debug.callback(_told("draw"), words, words[:0])
    return jax.random.bits(_plain(words), shape, getattr(jnp, f"uint{width}"))


TOLD = generators.define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jax.random.key_data(jax.random.key(seed, impl="threefry2x32")),
    split=_split,
    random_bits=_bits,
    fold_in=_fold_in,
    name="told",
    tag="told",
)


def told(call):
    """What a call asks of a key, each thing as often as it is asked."""
    _SEEN.clear()
    jax.block_until_ready(call(jax.random.key(0, impl=TOLD)))
    jax.effects_barrier()
    return list(_SEEN)


def check(seen):
    """Each key draws once and is then no parent; none is reached in two ways."""
    draws = Counter(words for what, words, _ in seen if what == "draw")
    parents = {words for what, words, _ in seen if what != "draw"}
    assert max(draws.values(), default=1) == 1
    assert not parents & set(draws)
    splits = {(words, children) for what, words, children in seen if what == "split"}
    folded = {child for what, _, children in seen if what == "fold" for child in children}
    handed = Counter(child for _, children in splits for child in children)
    assert max(handed.values(), default=1) == 1
    assert not folded & set(handed)


def test_the_check_sees_what_it_is_for():
    def shared(key):
        return jax.random.fold_in(key, 0), jax.random.split(key)

    def drawn_twice(key):
        return jax.random.normal(key), jax.random.uniform(key)

    def parent_and_draw(key):
        return jax.random.split(key), jax.random.normal(key)

    def split_twice(key):
        return jax.random.split(key, 2), jax.random.split(key, 3)

    for faulty in (shared, drawn_twice, parent_and_draw, split_twice):
        with pytest.raises(AssertionError):
            check(told(faulty))


def test_a_run_of_fit():
    def run(key):
        cell, task, sgd = rx.cells.gru(2, 5), rx.tasks.adding(7), optax.sgd(0.1)
        options = {"steps": 3, "batch_size": 2, "report_every": 2, "progress": False}
        return rx.train.fit(cell, task, sgd, key=key, **options).params

    seen = told(run)
    assert len([what for what, *_ in seen if what == "draw"]) > 7  # weights, and three batches
    check(seen)


def test_a_comparison():
    """The seeds, their batches, and the sequences they are judged and measured by."""

    def run(key):
        options = {"steps": 2, "seeds": 2, "batch_size": 2, "report_every": 1}
        found = rx.train.compare(
            rx.tasks.adding(7), {"a": rx.cells.elman(2, 5)}, key=key, **options
        )
        return found.trials[0].final

    check(told(run))


@pytest.mark.parametrize("name", ["adding", "copying", "temporal_order", "counting"])
def test_a_batch_of_a_task(name):
    seen = told(lambda key: rx.tasks.get(name, T=11).draw(key, 2))
    assert seen
    check(seen)


@pytest.mark.parametrize(
    "cell",
    [
        rx.cells.elman(2, 3),
        rx.cells.lstm(2, 3),
        rx.cells.gru(2, 3),
        rx.stack(rx.cells.gru(2, 3), rx.cells.gru(3, 2)),
        rx.bidirectional(rx.cells.elman(2, 3)),
        rx.cells.elman(2, 4, recurrent_init=rx.cures.init.spectral_radius(1.0)),
        rx.train.network(rx.cells.gru(2, 3), 1),
    ],
    ids=lambda cell: type(cell).__name__,
)
def test_initial_params(cell):
    seen = told(cell.init)
    assert seen
    check(seen)


def test_the_directions_of_the_microscope():
    cell = rx.cells.gru(2, 5)
    params, xs = cell.init(jax.random.key(0)), jnp.ones((6, 2))
    for call in (
        lambda key: rx.flow.decay(cell, params, None, xs, probes=3, key=key),
        lambda key: rx.flow.gradient_map(cell, params, None, xs, probes=4, key=key),
        lambda key: rx.flow.predict(cell, params, None, xs, samples=3, key=key),
        lambda key: rx.flow.predict(cell, params, None, xs, weights="untied", samples=3, key=key),
    ):
        seen = told(call)
        assert seen
        check(seen)


# --- keys that no user gives ----------------------------------------------------------------------


def test_purposes_are_beyond_what_a_split_hands_out():
    constants = [value for value in vars(keys).values() if type(value) is int]
    assert len(set(constants)) == len(constants) > 3
    assert all(2**31 <= constant < 2**32 for constant in constants)
    fold = jax.random.fold_in(jax.random.key(3), 5)
    assert jax.random.key_data(fold).tolist() == (
        jax.random.key_data(jax.random.split(jax.random.key(3), 8))[5].tolist()
    )  # which is why


def test_no_module_but_one_makes_a_key_out_of_nothing():
    """A seed of 0 is what users take: a key of the library's own must not be theirs.

    What was published was drawn with seeds, which are taken as they are.
    """
    root = Path(rx.__file__).parent
    for path in root.rglob("*.py"):
        if path != root / "keys.py" and root / "published" not in path.parents:
            assert not list(_made(ast.parse(path.read_text(encoding="utf-8")))), path


def _made(tree):
    """Calls of `jax.random.key(a number)`, but for those of which only the shape is asked."""
    shapes = [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "jax.eval_shape"
        for inner in ast.walk(node)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("random.key", "PRNGKey")
        ):
            constant = all(isinstance(argument, ast.Constant) for argument in node.args)
            if constant and node not in shapes:
                yield ast.unparse(node)
