"""A task, a network and an optimizer that take no time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax

import recurrax as rx

if TYPE_CHECKING:
    from collections.abc import Iterator

CELL = rx.cells.elman(2, 3)
OPTIMIZER = optax.chain(rx.cures.clip_by_global_norm(2.0), optax.adam(0.01))
TASK = rx.tasks.adding(4)
KEY = jax.random.key(3)


def fit(steps: int, **options: Any) -> rx.train.Fit:
    """Of the adding problem, never ended early unless asked."""
    given: dict[str, Any] = {"batch_size": 8, "report_every": 4, "progress": False, "key": KEY}
    given |= {"stop_when_solved": False, "optimizer": OPTIMIZER, "cell": CELL, "task": TASK}
    return rx.train.fit(steps=steps, **given | options)


def same(a: Any, b: Any) -> bool:
    """The same structure, and every bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(bits(x) == bits(y) for x, y in pairs)


def bits(leaf: Any) -> bytes:
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()


def without_speed(history: dict[str, Any]) -> dict[str, Any]:
    """All that two runs have in common."""
    return {name: column for name, column in history.items() if name != "steps_per_second"}


def split() -> rx.tasks.Split:
    """Ten sequences that tell their own answer, and four more."""
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(3, 14, 2)).astype(np.float32)
    targets = xs[..., :1] * np.float32(0.5)
    batch = rx.tasks.Batch(xs, targets, np.ones((3, 14), np.float32))
    train, test = (jax.tree.map(lambda a, p=p: a[:, p], batch) for p in (slice(10), slice(10, 14)))
    return rx.tasks.Split(train, test)


def loss(outputs: Any, batch: rx.tasks.Batch) -> Any:
    """Mean squared error over all steps."""
    return ((outputs - batch.targets) ** 2).mean()


def metrics(outputs: Any, batch: rx.tasks.Batch) -> dict[str, Any]:
    return {"mse": loss(outputs, batch)}


def dropout() -> rx.train.Model:
    """The network on inputs of which half are left out, while it is trained."""
    net = rx.train.network(CELL, 1)

    def apply(params: Any, xs: Any, mask: Any, key: Any = None) -> Any:
        if key is not None:
            xs = xs * jax.random.bernoulli(key, 0.5, xs.shape) * 2
        return net.apply(params, xs)

    return rx.train.model(net.init, apply)


DATA = rx.tasks.Task(
    name="halves",
    input_size=2,
    output_size=1,
    length=3,
    loss=loss,
    metrics=metrics,
    baseline=(("loss", 0.25), ("mse", 0.25)),
    goal=("mse", "<", 0.01),
    split=split,
)


def stream(rows: int = 2) -> Iterator[rx.tasks.Batch]:
    """Batches that go on from each other, each row for as long as it likes; some steps are none."""
    rng = np.random.default_rng(0)
    for begins in ([1, 0], [0, 0], [0, 1], [1, 1], [0, 0], [1, 0]):
        xs, targets = rng.normal(size=(5, rows, 2)), rng.normal(size=(5, rows, 1))
        mask = rng.random((5, rows)) < 0.8
        yield rx.tasks.Batch(
            xs, targets, np.ones((5, rows)), mask, np.resize(np.array(begins, bool), rows)
        )


def going_on() -> dict[str, Any]:
    """Options of `fit` for eight such rows, in chunks."""
    net = rx.train.network(CELL, 1)
    return {"cell": net, "task": stream(8), "loss": loss, "truncate": 2, "report_every": 1}
