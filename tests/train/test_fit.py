"""`rx.train.fit`: what it computes, what it records, and when it ends."""

from __future__ import annotations

import dataclasses
import itertools
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from close import assert_close, says
from train.small import CELL, DATA, KEY, OPTIMIZER, TASK, fit, loss, same, split, without_speed

import recurrax as rx
from recurrax import keys
from recurrax.cures.clipping.global_norm import global_norm
from recurrax.train.loop import advance


def by_hand(steps: int):
    """The same training in a Python loop."""
    net = rx.train.network(CELL, 1)
    params = net.init(KEY)
    state = OPTIMIZER.init(params)

    def objective(params, batch):
        outputs = net.apply(params, batch.xs)
        return TASK.loss(outputs, batch), TASK.metrics(outputs, batch)

    rows = []
    step = jax.jit(jax.value_and_grad(objective, has_aux=True))
    for n in range(steps):
        (value, found), gradient = step(params, TASK.draw(keys.of_step(KEY, n), 8))
        before = int(optax.tree.get(state, "clipped"))
        updates, state = OPTIMIZER.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        clipped = int(optax.tree.get(state, "clipped")) - before
        rows.append((value, found["mse"], optax.tree.norm(gradient), clipped))
    return params, state, np.array(rows, np.float64)


def test_it_is_the_loop_by_hand():
    params, state, rows = by_hand(10)
    found = fit(10)
    assert_close(found.params, params)
    assert_close(found.opt_state, state)
    assert found.step == 10
    history = found.history
    assert history["step"].tolist() == [4, 8, 10]
    cuts = [rows[:4], rows[4:8], rows[8:]]
    for name, column in (("loss", 0), ("mse", 1), ("gradient_norm", 2), ("clip_fraction", 3)):
        expected = [cut[:, column].mean() for cut in cuts]
        np.testing.assert_allclose(history[name], expected, rtol=1e-5, err_msg=name)
    largest = [cut[:, 2].max() for cut in cuts]
    np.testing.assert_allclose(history["gradient_norm_max"], largest, rtol=1e-5)
    assert 0 < history["clip_fraction"].mean() < 1


def test_reports_change_no_bit_and_one_program_serves_them_all():
    found = fit(10)
    count = advance._cache_size()
    assert same(found.params, fit(10, report_every=3).params)
    assert same(found.params, fit(10, report_every=1000, batch_size=8).params)
    assert advance._cache_size() == count


def test_the_params_of_the_user_are_left_alone():
    params = rx.train.network(CELL, 1).init(KEY)
    assert same(fit(3).params, fit(3, params=params).params)
    assert not params.w_out.is_deleted()


def test_a_leaf_that_stands_in_two_places_is_no_trouble():
    """What is donated must not be donated twice."""
    doubled = optax.GradientTransformation(
        lambda params: (params, params), lambda g, state, params=None: (g, state)
    )
    assert fit(2, optimizer=doubled).step == 2


def test_it_stops_when_it_is_solved():
    easy = dataclasses.replace(TASK, goal=("mse", "<", 1e3))
    found = fit(12, task=easy, stop_when_solved=True)
    assert (found.step, found.solved) == (4, True)
    assert (lambda f: (f.step, f.solved))(fit(12, task=easy)) == (12, True)
    assert not fit(4, stop_when_solved=True).solved


def test_a_data_task_is_judged_by_its_test_split():
    found = fit(6, task=DATA, report_every=2, evaluate_every=4, batch_size=3)
    history = found.history
    assert np.isnan(history["test_mse"]).tolist() == [True, False, False]
    net, test = rx.train.network(CELL, 1), split().test
    expected = loss(net.apply(found.params, jnp.asarray(test.xs)), test)
    np.testing.assert_allclose(history["test_loss"][-1], expected, rtol=1e-5)
    assert found.solved == (history["test_mse"][-1] < 0.01)
    easy = dataclasses.replace(DATA, goal=("mse", "<", 1e3))
    options = {"task": easy, "report_every": 2, "evaluate_every": 2, "batch_size": 3}
    whole = fit(6, stop_when_solved=True, **options)
    assert (whole.step, whole.solved) == (6, True)  # to stop by the test split is to choose by it


def test_a_data_task_that_goes_on_is_judged_anew(tmp_path):
    """What the test split was at an earlier end says nothing of a later one."""
    goal = dataclasses.replace(DATA, goal=("mse", "<", 1e3))
    options = {"report_every": 2, "batch_size": 3, "stop_when_solved": True, "directory": tmp_path}
    assert fit(2, task=goal, **options).solved
    out_of_reach = dataclasses.replace(DATA, goal=("mse", "<", 0.0))
    found = fit(4, task=out_of_reach, resume=True, **options)
    assert (found.step, found.solved) == (4, False)


def test_a_regularizer_is_added_and_recorded():
    def penalty(cell, params, state, xs):
        assert cell == CELL
        assert (state.h.shape, xs.shape) == ((8, 3), (4, 8, 2))
        return 0.5 * jnp.sum(params.w_rec**2)

    plain = optax.sgd(0.5)
    found, without = fit(1, optimizer=plain, regularizer=penalty), fit(1, optimizer=plain)
    start = rx.train.network(CELL, 1).init(KEY).cell.w_rec
    assert_close(found.params.cell.w_rec, without.params.cell.w_rec - 0.5 * start)
    np.testing.assert_allclose(found.history["penalty"], [0.5 * jnp.sum(start**2)], rtol=1e-5)
    assert found.history["loss"] == without.history["loss"]
    assert "clip_fraction" not in found.history


def test_the_flow_is_watched():
    found = fit(7, flow_every=3)
    assert found.history["step"].tolist() == [3, 4, 6, 7]
    flow = found.history["flow"]
    assert flow.step.tolist() == [0, 3, 6]
    start = rx.train.network(CELL, 1).init(KEY).cell
    first = rx.flow.watch(CELL, start, None, TASK.draw(keys.of_step(KEY, 0), 8).xs, step=0)
    np.testing.assert_allclose(flow.log_norm[0], first.log_norm, rtol=1e-5)
    rx.plot.history(flow, rx.plot.blank_axes())


def batches():
    for n in itertools.count():
        yield TASK.draw(keys.of_step(KEY, n), 8)


def test_batches_of_ones_own():
    net = rx.train.network(CELL, 1)
    own = {"cell": net, "loss": TASK.loss, "metrics": TASK.metrics}
    found = fit(20, task=batches(), **own)
    assert_close(found.params, fit(20).params)
    assert found.solved is False
    few = fit(20, task=itertools.islice(batches(), 6), **own)
    assert few.step == 6
    assert few.history["step"].tolist() == [4, 6]


def test_a_spike_that_is_skipped_counts_as_clipped():
    """The targets of the sixth batch are huge: its update alone is dropped."""
    given = list(itertools.islice(batches(), 8))
    given[5] = given[5]._replace(targets=1000 * given[5].targets)
    skip = optax.chain(rx.cures.skip_spikes(10.0, warmup=3), optax.sgd(1e-3))
    net = rx.train.network(CELL, 1)
    found = fit(8, task=given, cell=net, loss=TASK.loss, optimizer=skip)
    assert int(optax.tree.get(found.opt_state, "skipped")) == 1
    assert found.history["clip_fraction"].tolist() == [0, 1 / 4]  # of four steps each
    assert float(rx.cures.clip_fraction(found.opt_state)) == 1 / 8


def test_a_learning_rate_that_looks_at_the_loss():
    plateau = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1))
    state = fit(3, optimizer=plateau).opt_state
    assert np.isfinite(optax.tree.get(state, "best_value"))


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_between_two_calls_and_nothing_is_lost():
    def pressing():
        for n, batch in enumerate(batches()):
            if n == 5:
                signal.raise_signal(signal.SIGINT)
            yield batch

    net = rx.train.network(CELL, 1)
    with pytest.raises(rx.train.Interrupted) as caught:
        fit(50, task=pressing(), cell=net, loss=TASK.loss)
    found = caught.value.fit
    assert 5 <= found.step < 50
    assert str(caught.value) == (
        f"training was stopped after {found.step} of 50 steps. Its params are in the fit of this "
        "exception: catch rx.train.Interrupted."
    )
    again = fit(found.step, task=batches(), cell=net, loss=TASK.loss)
    assert same(found.params, again.params)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_gradient_that_is_not_finite_is_recorded_and_skipped():
    def broken(outputs, batch):
        return jnp.inf * outputs.sum()

    task = dataclasses.replace(TASK, loss=broken)
    found = fit(4, task=task)
    assert same(found.params, rx.train.network(CELL, 1).init(KEY))
    assert not np.isfinite(found.history["gradient_norm"][0])


def test_the_norm_is_right_where_its_square_is_not():
    huge = {"a": jnp.full(4, 1e30), "b": jnp.zeros((0,)), "c": jnp.zeros(2, jnp.bfloat16)}
    np.testing.assert_allclose(global_norm(huge), 2e30, rtol=1e-6)
    np.testing.assert_allclose(global_norm({"a": jnp.full(4, 1e-30)}), 2e-30, rtol=1e-6)
    assert global_norm({"a": jnp.zeros(3)}) == 0
    assert global_norm({}) == 0
    assert global_norm({"a": jnp.array([1.0, jnp.inf])}) == jnp.inf
    assert jnp.isnan(global_norm({"a": jnp.array([1.0, jnp.nan])}))


def test_two_equal_calls_find_the_same():
    first, second = fit(4), fit(4)
    assert same(without_speed(first.history), without_speed(second.history))


def test_each_report_is_logged_and_a_log_that_fails_loses_nothing(tmp_path):
    told = {}

    def log(step, record):
        told[step] = record
        if step == 8:
            raise OSError("no network")

    options = {"flow_every": 6, "directory": tmp_path}
    with pytest.raises(OSError, match="no network"):
        fit(20, log=log, **options)
    assert [*told] == [4, 6, 8]
    fit(20, log=told.__setitem__, resume=True, **options)
    assert [*told] == [4, 6, 8, 12, 16, 18, 20]
    history = fit(20, flow_every=6).history
    assert [record["mse"] for record in told.values()] == history["mse"].tolist()
    assert told[20]["flow/log_norm"] == history["flow"].log_norm[3]
    kinds = {type(value) for record in told.values() for value in record.values()}
    assert kinds == {float}
    assert not {"step", "flow/step", "flow/gates"} & told[20].keys()


class TestErrors:
    def test_a_cell_that_does_not_fit(self):
        text = "the cell takes 5 features, but 2 come in: build it with input_size=2"
        with says(ValueError, text):
            fit(1, cell=rx.cells.gru(5, 3))
        text = (
            "the network takes 2 features and gives 7, but the task 'adding' has 2 and asks for 1: "
            "pass the cell alone, and the readout will fit"
        )
        with says(ValueError, text):
            fit(1, cell=rx.train.network(CELL, 7))

    def test_no_optimizer(self):
        text = (
            "optimizer must be an optax.GradientTransformation, such as optax.adam(1e-3), got float"
        )
        with says(TypeError, text):
            fit(1, optimizer=0.1)

    def test_no_log(self):
        text = "log must be a function log(step, record), got str"
        with says(TypeError, text):
            fit(1, log="runs/1")

    def test_numbers_of_steps(self):
        with says(ValueError, "steps must be a positive integer, got 0"):
            fit(0)
        with says(ValueError, "checkpoint_every must be a positive integer, got -1"):
            fit(1, checkpoint_every=-1)
        with says(TypeError, "report_every must be a positive integer, got None"):
            fit(1, report_every=None)

    def test_the_old_spelling(self):
        text = "inner is called report_every now: write report_every=3"
        with says(TypeError, text):
            fit(1, inner=3)
        with says(TypeError, text):
            rx.train.compare(TASK, {"a": CELL}, key=KEY, steps=1, inner=3)

    def test_no_task(self):
        text = (
            "task must be a rx.tasks.Task, such as rx.tasks.adding(100), or an iterable of "
            "rx.tasks.Batch, got int"
        )
        with says(TypeError, text):
            fit(1, task=3)
        text = (
            "loss and metrics come with the task 'adding': leave them out, or change the task with "
            "dataclasses.replace(task, loss=...)"
        )
        with says(ValueError, text):
            fit(1, loss=loss)

    def test_batches_without_a_loss_or_an_output_size(self):
        text = (
            "loss must be given for batches of your own: loss(outputs, batch), such as "
            "rx.tasks.cross_entropy"
        )
        with says(ValueError, text):
            fit(1, task=batches())
        text = (
            "cell must be a rx.train.network(cell, output_size) for batches of your own, which do "
            "not tell the output size; got Cell"
        )
        with says(TypeError, text):
            fit(1, task=batches(), loss=loss)
        with says(ValueError, "task, an iterable of batches, has none"):
            fit(1, task=[], cell=rx.train.network(CELL, 1), loss=loss)

    def test_batches_of_two_shapes(self):
        odd = [TASK.draw(KEY, 8), TASK.draw(KEY, 5)]
        text = (
            "the batches of task must be of one shape: xs (4, 5, 2), targets (4, 5, 1), weights "
            "(4, 5) came after xs (4, 8, 2), targets (4, 8, 1), weights (4, 8). Pad them, with "
            "weights of 0 where nothing is asked; mask and begins are in all of them or in none."
        )
        with says(ValueError, text):
            fit(9, task=odd, cell=rx.train.network(CELL, 1), loss=TASK.loss)

    def test_params_of_another_network(self):
        params = rx.train.network(rx.cells.elman(2, 4), 1).init(KEY)
        with pytest.raises(ValueError, match=r"\Aparams must be those of the network, Network"):
            fit(1, params=params)

    def test_resume_without_a_directory(self):
        with says(ValueError, "resume=True needs the directory in which the checkpoints are"):
            fit(1, resume=True)
