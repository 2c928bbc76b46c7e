"""Mistakes in what a user hands to `rx.train.fit`, named before anything is compiled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from close import says
from train.small import CELL, KEY, OPTIMIZER, TASK, fit

import recurrax as rx

NETWORK = rx.train.network(CELL, 1)


def own(**options):
    batches = [TASK.draw(jax.random.fold_in(KEY, i), 4) for i in range(3)]
    given = {"loss": rx.tasks.squared_error} | options
    return rx.train.fit(NETWORK, batches, OPTIMIZER, key=KEY, steps=3, progress=False, **given)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"loss": lambda o, b: o}, TypeError, "loss must return a real floating-point scalar, got"),
        ({"loss": lambda o, b: 1}, TypeError, "loss must return a real floating-point scalar, got"),
        ({"loss": lambda o: o}, TypeError, r"loss must be a function loss\(outputs, batch\); the"),
        ({"loss": 3}, TypeError, r"loss must be a function loss\(outputs, batch\), got int"),
        ({"metrics": lambda o, b: o[0, 0, 0]}, TypeError, "metrics must return a dict of scalars"),
        ({"metrics": lambda o, b: {"m": o}}, TypeError, "the metric 'm' must be a scalar, got"),
        (
            {"metrics": lambda o, b: {"loss": jnp.float32(-7)}},
            ValueError,
            "metrics may not be named 'loss', which the history uses itself",
        ),
        (
            {"metrics": lambda o, b: {"test_mse": jnp.float32(-7)}},
            ValueError,
            "metrics may not be named 'test_mse'",
        ),
        (
            {"regularizer": lambda c, p: 1.0},
            TypeError,
            r"regularizer must be a function regularizer\(cell, params, state, xs\); the one given",
        ),
        (
            {"regularizer": lambda c, p, s, x: x},
            TypeError,
            "regularizer must return a real floating-point scalar",
        ),
    ],
)
def test_functions_that_do_not_fit(options, kind, text):
    with pytest.raises(kind, match=text):
        own(**options)


def test_options_that_mean_nothing():
    with says(ValueError, "progress must be True, False or \"lines\", got 'line'"):
        fit(3, progress="line")
    with pytest.raises(ValueError, match="evaluate_every needs a task made of data"):
        fit(3, evaluate_every=2)
    with pytest.raises(TypeError, match="optimizer must be a function of the learning rate, such"):
        rx.train.compare(TASK, {"a": CELL}, optimizer=optax.adam(0.1), key=KEY, steps=2)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with says(ValueError, f"directory must be a folder, but {path} is a file"):
        fit(3, directory=path)
    assert path.read_text() == "mine"


def test_resuming_another_run(tmp_path):
    fit(4, directory=tmp_path, checkpoint_every=2)
    with pytest.raises(ValueError, match=r"steps must be at least the 4 that .*, got 2"):
        fit(2, directory=tmp_path, resume=True)
    with pytest.raises(ValueError, match="another regularizer: it was trained with none, and this"):
        fit(6, directory=tmp_path, resume=True, regularizer=lambda c, p, s, x: jnp.sum(p.b**2))


def test_lines_that_are_no_rows_are_kept_aside(tmp_path):
    path = tmp_path / "history.jsonl"
    fit(8, directory=tmp_path, report_every=2, checkpoint_every=2)
    lines = path.read_text().splitlines()
    damaged = "\n".join([lines[0], "x" + lines[1], *lines[2:]])
    path.write_text(damaged)
    with pytest.warns(UserWarning, match=r"row 2 is not that of step 4 .* kept as history.jsonl.d"):
        found = fit(10, directory=tmp_path, report_every=2, checkpoint_every=2, resume=True)
    assert found.history["step"].tolist() == [2, 4, 6, 8, 10]
    assert np.isnan(found.history["loss"]).tolist() == [False, True, False, False, False]
    assert (tmp_path / "history.jsonl.damaged1").read_text() == damaged


def test_a_file_of_the_user_is_kept(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"my": "notes"}\n')
    with pytest.warns(UserWarning, match="is kept as history.jsonl.damaged1"):
        fit(3, directory=tmp_path, resume=True)
    assert "my" in (tmp_path / "history.jsonl.damaged1").read_text()


def test_the_flow_of_a_cell_whose_gradient_is_clipped():
    cell = rx.cures.clip_state_gradient(CELL, max_norm=1.0)
    found = rx.train.fit(
        cell, TASK, OPTIMIZER, key=KEY, steps=4, batch_size=4, flow_every=2, progress=False
    )
    assert np.isfinite(found.history["flow"].log_norm).all()


def test_a_batch_that_is_a_bare_tuple_is_named():
    batch = TASK.draw(KEY, 4)
    with pytest.raises(TypeError, match=r"batch must be a rx\.tasks\.Batch"):
        rx.train.fit(
            NETWORK,
            [tuple(batch[:3])],
            OPTIMIZER,
            key=KEY,
            steps=1,
            loss=rx.tasks.squared_error,
            progress=False,
        )


def test_a_penalty_that_knows_no_mask_is_refused_where_there_is_one():
    batch = TASK.draw(KEY, 4)
    masked = batch._replace(mask=jnp.ones(batch.xs.shape[:2], bool))
    with pytest.raises(ValueError, match="padding would be penalised: leave the regularizer out"):
        rx.train.fit(
            NETWORK,
            [masked],
            OPTIMIZER,
            key=KEY,
            steps=1,
            loss=rx.tasks.squared_error,
            regularizer=lambda cell, params, state, xs: jnp.sum(xs**2),
            progress=False,
        )


@pytest.mark.parametrize(
    ("task", "remedy"), [("adding", "rx.tasks.get makes one"), (TASK.draw(KEY, 4), "in a list")]
)
def test_a_name_or_one_batch_is_no_task(task, remedy):
    with pytest.raises(TypeError, match=remedy):
        rx.train.fit(CELL, task, OPTIMIZER, key=KEY, steps=1, progress=False)
