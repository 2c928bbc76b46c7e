"""Cells and cures on one task, all seeds of a pair in one program."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from close import says
from train import small

import recurrax as rx
from recurrax import keys

CLIP = rx.train.Cure(optimizer=rx.cures.clip_by_global_norm(0.5))
CELLS = {"small": small.CELL}


def compare(cells=CELLS, cures=None, **options):
    """Two seeds of eight steps, with a report every four."""
    given = {"key": small.KEY, "steps": 8, "report_every": 4, "seeds": 2, "batch_size": 8}
    given |= {"learning_rate": 0.01, "task": small.TASK}
    given |= {"cures": {"clip": CLIP} if cures is None else cures} | options
    return rx.train.compare(cells=cells, **given)


@pytest.fixture(scope="module")
def found():
    """Both ways to name what is compared, on one task."""
    return compare({"small": small.CELL, "gru": rx.cells.gru(2, 3)})


def test_the_grid_is_complete(found):
    assert [(trial.cell, trial.cure) for trial in found.trials] == [
        ("small", "clip"),
        ("gru", "clip"),
    ]
    assert (found.task, found.length, found.goal) == ("adding", 4, ("mse", "<", 0.01))
    assert found.baseline == pytest.approx({"loss": 1 / 6, "mse": 1 / 6})
    first = found.trials[0]
    assert first.step.tolist() == [4, 8]
    assert set(first.history) == {"loss", "mse", "gradient_norm", "clip_fraction"}
    assert {np.shape(rows) for rows in first.history.values()} == {(2, 2)}
    assert np.isnan(first.solved_at).all()
    assert not first.diverged.any()


def test_a_seed_is_what_fit_does_with_its_key(found):
    history = found.trials[0].history
    optimizer = optax.chain(rx.cures.clip_by_global_norm(0.5), optax.adam(0.01))
    for seed, key in enumerate(jax.random.split(small.KEY, 2)):
        alone = small.fit(8, key=key, optimizer=optimizer)
        for name in ("loss", "mse", "gradient_norm", "clip_fraction"):
            np.testing.assert_allclose(
                history[name][:, seed], alone.history[name], rtol=1e-4, err_msg=name
            )


def test_the_flow_at_the_start_is_that_of_the_initial_params(found):
    xs = small.TASK.draw(keys.purpose(small.KEY, keys.EXAMPLES), 4).xs
    net = rx.train.network(small.CELL, 1)
    for seed, key in enumerate(jax.random.split(small.KEY, 2)):
        params = net.init(key).cell
        decay = rx.flow.decay(small.CELL, params, None, xs)
        start = found.trials[0].start
        np.testing.assert_allclose(
            start.rate[seed], np.median(rx.flow.rate(decay)), rtol=1e-4, atol=1e-5
        )
    assert (start.step.tolist(), found.trials[0].end.step.tolist()) == ([0, 0], [8, 8])
    assert np.all(found.trials[0].end.rate != start.rate)


def test_a_pair_ends_once_all_its_seeds_have_solved_the_task():
    easy = dataclasses.replace(small.TASK, goal=("mse", "<", 1e9))
    (trial,) = compare(task=easy).trials
    assert (trial.step.tolist(), trial.solved_at.tolist()) == ([4], [4, 4])
    assert trial.solved_at_end.tolist() == [True, True]
    (trial,) = compare(task=easy, stop_early=False).trials
    assert (trial.step.tolist(), trial.solved_at.tolist()) == ([4, 8], [4, 4])


def test_a_seed_whose_loss_is_not_finite_has_diverged():
    cell = rx.cells.elman(2, 3, activation="relu")
    none = {"none": rx.train.Cure()}
    (trial,) = compare({"a": cell}, none, optimizer=optax.sgd, learning_rate=1e20).trials
    assert trial.diverged.tolist() == [True, True]
    assert trial.solved_at_end.tolist() == [False, False]
    assert np.isnan(trial.solved_at).all()
    assert trial.step.tolist() == [4]  # nothing is left to train
    assert np.isnan(trial.end.rate).all()


def unstable(outputs, batch):
    """A metric that reaches any goal, outputs that are NaN included."""
    return {"mse": jnp.float32(0)}


def test_nothing_is_solved_by_outputs_that_are_nan():
    cell, none = rx.cells.elman(2, 3, activation="relu"), {"none": rx.train.Cure()}
    task = dataclasses.replace(small.TASK, metrics=unstable)
    options = {"task": task, "optimizer": optax.sgd, "learning_rate": 1e20}
    (trial,) = compare({"a": cell}, none, **options).trials
    assert np.isnan(trial.solved_at).all()
    assert not trial.solved_at_end.any()


def test_solved_on_the_way_is_not_solved_at_the_end():
    """Ascent: every seed is below the goal at the first report, and none at the last."""
    options = {
        "optimizer": lambda rate: optax.sgd(-rate),
        "learning_rate": 0.3,
        "stop_early": False,
    }
    (seen,) = compare(steps=16, report_every=1, **options).trials
    first, last = seen.history["mse"][0].max(), seen.final["mse"].min()
    assert first < last
    task = dataclasses.replace(small.TASK, goal=("mse", "<", float(first + last) / 2))
    (trial,) = compare(task=task, steps=16, report_every=1, **options).trials
    assert trial.solved_at.tolist() == [1, 1]
    assert trial.solved_at_end.tolist() == [False, False]


def test_the_test_split_judges_once_at_the_end():
    task = dataclasses.replace(small.DATA, goal=("mse", "<", 1e9))
    (trial,) = compare(task=task).trials
    assert not any(name.startswith("test") for name in trial.history)
    test, seeds = small.split().test, jax.random.split(small.KEY, 2)
    optimizer = optax.chain(rx.cures.clip_by_global_norm(0.5), optax.adam(0.01))
    for seed, key in enumerate(seeds):
        alone = small.fit(8, key=key, optimizer=optimizer, task=task)
        outputs = rx.train.network(small.CELL, 1).apply(alone.params, jnp.asarray(test.xs))
        np.testing.assert_allclose(trial.final["mse"][seed], small.loss(outputs, test), rtol=1e-4)
    assert trial.step.tolist() == [4, 8]  # which is no reason to end
    assert (trial.solved_at.tolist(), trial.solved_at_end.tolist()) == ([8, 8], [True, True])


def test_what_is_told():
    told, ended = [], []
    compare(tell=lambda *seen: told.append(seen[:3]), done=ended.append)
    assert told == [("small", "clip", 4), ("small", "clip", 8)]
    assert [trial.cure for trial in ended] == ["clip"]


def penalty(cell, params, state, xs):
    return 0.1 * (params.w_rec**2).sum()


def wrapped(cell):
    return rx.cures.clip_state_gradient(cell, max_value=1e-30)


def test_a_cure_of_one_s_own():
    both = rx.train.Cure(cell=wrapped, regularizer=penalty)
    rates = {"default": 0.1, "small/both": 0.01}
    (trial,) = compare(cures={"both": both}, learning_rate=rates).trials
    assert trial.learning_rate == 0.01
    assert (trial.history["penalty"] > 0).all()
    assert np.isfinite(trial.start.rate).all()  # of the cell inside, which can be pushed forward


def test_messages():
    with says(TypeError, "task must be a rx.tasks.Task such as rx.tasks.adding(100), got str"):
        compare(task="adding")
    with says(ValueError, "seeds must be a positive integer, got 0"):
        compare(seeds=0)
    with says(
        ValueError,
        "cells: there is no cell 'lstn'; did you mean 'lstm'? There are elman, elman-relu, "
        "lstm, gru, gru-reset-before, lstm-projection, elman-uniform, elman-relu-identity, "
        "elman-exploding, lstm-forget, lstm-chrono, irnn",
    ):
        compare(["lstn"])
    with says(TypeError, "cells must be a dict by name, or a list of names, got 'lstm'"):
        compare("lstm")
    with says(ValueError, "cures names one twice: clip, clip"):
        compare(cures=["clip", "clip"])
    with says(TypeError, "cures['a'] must be a rx.train.Cure, got int"):
        compare(cures={"a": 1})
    with says(ValueError, "learning_rate must be above 0, got -1"):
        compare(learning_rate=-1)
    with says(
        ValueError,
        "learning_rate names 'lstm', which is neither a cell nor a pair that is compared: default, "
        "small, small/clip",
    ):
        compare(learning_rate={"lstm": 1.0})
    with says(
        ValueError,
        "learning_rate says nothing of 'small': name it, or give a 'default' for the others",
    ):
        compare(learning_rate={})
