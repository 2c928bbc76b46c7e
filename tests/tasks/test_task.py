"""What holds for every task: one row of the table each; and what a task refuses."""

from __future__ import annotations

import dataclasses
from functools import partial

import close
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx

TASKS = {
    "adding": partial(rx.tasks.adding, 11),
    "multiplication": partial(rx.tasks.multiplication, 11),
    "copying": partial(rx.tasks.copying, 3, symbols=4, length=2),
    "temporal_order": partial(rx.tasks.temporal_order, 13),
    "counting": partial(rx.tasks.counting, 13, letters=3),
    "digits": partial(rx.tasks.digits),
    "permuted": partial(rx.tasks.digits, permuted=True),
    "text": lambda: rx.tasks.text("a.txt", T=5),
}


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("abcdefghij" * 20)


@partial(jax.jit, static_argnums=(0, 2))
def drawn(task, key, size, data):
    return task.draw(key, size, data)


@pytest.mark.parametrize("name", TASKS)
def test_the_protocol(name, key):
    task = TASKS[name]()
    T, B, I, O = task.length, 3, task.input_size, task.output_size
    data = None if task.split is None else task.split().train
    batch = task.draw(key, B, data)

    # Shapes and dtypes, and nothing that check_batch would refuse.
    assert (batch.xs.shape, batch.xs.dtype) == ((T, B, I), jnp.float32)
    assert (batch.weights.shape, batch.weights.dtype) == ((T, B), jnp.float32)
    if batch.targets.ndim == 3:
        assert (batch.targets.shape, batch.targets.dtype) == ((T, B, O), jnp.float32)
    else:
        assert (batch.targets.shape, batch.targets.dtype) == ((T, B), jnp.int32)
    rx.tasks.check_batch(batch, I, O)
    assert (np.asarray(batch.weights).sum(0) > 0).all()

    # The same key gives the same batch, under jit and vmap as well; another gives another.
    keys = jax.random.split(key, 2)
    two = jax.vmap(lambda k: task.draw(k, B, data))(keys)
    first, second = (jax.tree.map(lambda leaf, i=i: leaf[i], two) for i in range(2))
    close.assert_same(first, task.draw(keys[0], B, data))
    assert not jnp.array_equal(first.xs, second.xs)
    close.assert_same(drawn(task, key, B, data), batch)

    # An equal task, built again, hashes alike and compiles nothing.
    again = TASKS[name]()
    assert again == task
    assert hash(again) == hash(task)
    before = drawn._cache_size()
    drawn(again, keys[0], B, data)
    assert drawn._cache_size() == before

    # The loss and the metrics are finite float32 scalars, and the baseline has a value for each.
    outputs = jax.random.normal(key, (T, B, O), jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"):
        numbers = {"loss": task.loss(outputs, batch)} | task.metrics(outputs, batch)
        task.draw(key, B, data)
    assert set(numbers) == set(dict(task.baseline))
    for value in numbers.values():
        assert (value.shape, value.dtype) == ((), jnp.float32)
        assert np.isfinite(value)
    assert not task.solved(dict(task.baseline))


def test_tasks_of_other_numbers_differ():
    built = [make() for make in TASKS.values()]
    assert len(set(built)) == len(built)
    assert rx.tasks.adding(10) != rx.tasks.adding(11)
    assert rx.tasks.text("a.txt", T=5) != rx.tasks.text("a.txt", T=6)


# --- drawing ------------------------------------------------------------------------------------


def test_take_and_draw_pick_the_stored_sequences(key):
    task = rx.tasks.digits()
    data = task.split().train
    columns = jnp.array([7, 0, 7])
    taken = task.take(data, columns)
    np.testing.assert_array_equal(taken.xs, data.xs[:, [7, 0, 7]])
    np.testing.assert_array_equal(taken.targets, data.targets[:, [7, 0, 7]])
    small = jax.tree.map(lambda leaf: leaf[:, :4], data)
    many = task.draw(key, 200, small)
    seen = {tuple(x) for x in np.asarray(many.xs[..., 0]).T}
    assert seen == {tuple(x) for x in small.xs[..., 0].T}  # all of them, and no others
    assert taken.mask is None
    masked = data._replace(mask=data.weights > 0, begins=np.zeros(data.weights.shape[1], bool))
    taken = task.take(masked, columns)
    np.testing.assert_array_equal(taken.mask, masked.mask[:, [7, 0, 7]])
    assert taken.begins is None  # it is by itself, whatever lies beside it in the data


@pytest.mark.parametrize("size", [0, -1, True])
def test_batch_sizes_that_are_none(size, key):
    expected = f"the batch size must be a positive integer, got {size}"
    with close.says(ValueError, expected):
        rx.tasks.adding(5).draw(key, size)
    for name in ("adding", "copying", "temporal_order", "counting"):
        with close.says(ValueError, expected):
            TASKS[name]().sample(key, size)


def test_a_key_that_is_none():
    with close.says(TypeError, "key must be a JAX random key such as jax.random.key(0), got 3"):
        rx.tasks.adding(5).draw(3, 2)


def test_data_where_there_is_none_and_the_reverse(key):
    endless, digits = rx.tasks.adding(5), rx.tasks.digits()
    batch = endless.draw(key, 2)
    with close.says(ValueError, "task 'adding' is endless and draws no data; leave data out"):
        endless.draw(key, 2, batch)
    with close.says(
        ValueError,
        "task 'digits' is made of data: pass draw(key, size, split.train), with split = "
        "task.split()",
    ):
        digits.draw(key, 2)
    with close.says(TypeError, "data must be a rx.tasks.Batch such as split.train, got Split"):
        digits.draw(key, 2, digits.split())
    with close.says(ValueError, "data holds no sequences (B = 0) to draw from; expected B >= 1"):
        digits.draw(key, 2, rx.tasks.Batch(*(np.zeros((64, 0)) for _ in range(3))))


# --- solved -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relation", "below", "at", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
    ],
)
def test_solved(relation, below, at, above):
    task = dataclasses.replace(rx.tasks.adding(5), goal=("mse", relation, 0.5))
    assert task.solved({"mse": 0.25, "loss": 9}) is below
    assert task.solved({"mse": jnp.float32(0.5)}) is at
    np.testing.assert_array_equal(
        task.solved({"mse": jnp.array([0.25, 0.5, 0.75])}), [below, at, above]
    )


def test_not_a_number_solves_nothing():
    assert not rx.tasks.adding(5).solved({"mse": float("nan")})
    assert not rx.tasks.copying(5).solved({"accuracy": float("nan")})
    assert not rx.tasks.copying(5).solved({"accuracy": 1.0, "loss": float("nan")})
    several = {"accuracy": np.ones(2), "loss": np.array([np.inf, 1])}
    assert rx.tasks.copying(5).solved(several).tolist() == [False, True]


def test_solved_without_the_metric():
    with close.says(
        ValueError,
        "task 'adding' is solved by its mse, which is not among the metrics given: loss, accuracy",
    ):
        rx.tasks.adding(5).solved({"loss": 1.0, "accuracy": 1.0})


# --- tasks of one's own -------------------------------------------------------------------------


def changed(**fields):
    return dataclasses.replace(rx.tasks.adding(5), **fields)


def test_what_a_task_refuses():
    with close.says(ValueError, "input_size must be a positive integer, got 0"):
        changed(input_size=0)
    with close.says(
        ValueError,
        "task 'adding' needs either sample, if it is endless, or split, if it is made of data; "
        "got neither",
    ):
        changed(sample=None)
    with pytest.raises(ValueError, match=r"; got both\Z"):
        changed(split=rx.tasks.digits().split)
    with close.says(
        ValueError,
        "goal must be (metric, relation, value) with a relation among <, <=, >, >=, such as "
        "('mse', '<', 0.01); got ('mse', '=', 0)",
    ):
        changed(goal=("mse", "=", 0))
    with close.says(
        ValueError,
        "baseline must give a value for 'loss' and for the goal's metric 'accuracy', got 'loss', "
        "'mse'",
    ):
        changed(goal=("accuracy", ">", 0.9))
    with close.says(
        TypeError,
        "task 'adding' must be hashable, since it decides what is compiled: give baseline and goal "
        "as tuples, and functions or frozen dataclasses",
    ):
        changed(baseline=[("loss", 1.0), ("mse", 1.0)])
