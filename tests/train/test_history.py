"""The history in memory and in its file."""

from __future__ import annotations

import json
import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train.small import fit, same, without_speed

from recurrax.train.history import History, flat, learning_rates


def test_rows_become_arrays(tmp_path):
    history = History(tmp_path / "h.jsonl")
    history.append({"step": 2, "loss": 0.1})
    history.append({"step": 4, "loss": math.inf, "test_loss": math.nan})
    history.append({"step": 5, "loss": -math.inf, "test_loss": 3.0})
    found = history.arrays()
    assert found["step"].tolist() == [2, 4, 5]
    assert found["step"].dtype == np.int64
    np.testing.assert_array_equal(found["loss"], [0.1, np.inf, -np.inf])
    np.testing.assert_array_equal(found["test_loss"], [np.nan, np.nan, 3])
    assert same(History(tmp_path / "h.jsonl", history.ledger).arrays(), found)


def test_every_line_is_strict_json(tmp_path):
    history = History(tmp_path / "h.jsonl")
    history.append({"step": 1, "loss": math.nan, "flow": {"rate": math.inf, "gates": {"f": 0.5}}})

    def refuse(word):
        raise AssertionError(word)

    line = json.loads((tmp_path / "h.jsonl").read_text(), parse_constant=refuse)
    assert line == {"step": 1, "loss": "nan", "flow": {"rate": "inf", "gates": {"f": 0.5}}}


def test_what_lies_beyond_the_checkpoint_is_cut_off(tmp_path):
    path = tmp_path / "h.jsonl"
    history = History(path)
    for step in (2, 4, 6):
        history.append({"step": step, "loss": float(step)})
    with path.open("a") as file:
        file.write('{"step": 8, "lo')  # a process that was killed
    again = History(path, history.ledger[:2])
    assert again.arrays()["step"].tolist() == [2, 4]
    again.append({"step": 6, "loss": 7.0})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2, 4, 6]
    assert History(path, again.ledger).arrays()["loss"].tolist() == [2, 4, 7]


def test_another_process_reads_and_does_not_write(tmp_path):
    path = tmp_path / "h.jsonl"
    first = History(path)
    first.append({"step": 2, "loss": 1.0})
    path.write_text(before := path.read_text() * 2)
    other = History(path, first.ledger, write=False)
    other.append({"step": 3, "loss": 2.0})
    assert other.arrays()["step"].tolist() == [2, 3]
    assert [path.read_text(), *tmp_path.iterdir()] == [before, path]


def test_no_rows():
    assert History(None).arrays()["step"].shape == (0,)


def test_the_file_of_a_run_is_its_history(tmp_path):
    found = fit(8, directory=tmp_path, flow_every=4)
    again = fit(8, directory=tmp_path, flow_every=4, resume=True)
    assert same(found.history, again.history)
    assert same(without_speed(found.history), without_speed(fit(8, flow_every=4).history))


# --- learning rates, and what is logged -----------------------------------------------------------

RATES = optax.linear_schedule(0.5, 0.1, 4)
KEPT = optax.inject_hyperparams(optax.sgd)(learning_rate=RATES)
FIXED = optax.inject_hyperparams(optax.adam)(learning_rate=0.25)
GROUPS = {"a": "slow", "b": "fast"}


def nested(optimizer):
    """An optimizer whose own number is another one."""

    def make(learning_rates):
        return optax.chain(optax.scale(learning_rates), optimizer)

    return optax.inject_hyperparams(make)(learning_rates=3.0)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (optax.chain(optax.clip(1.0), KEPT), {"learning_rate": 0.4}),
        (optax.masked(KEPT, {"a": True, "b": False}), {"learning_rate": 0.4}),
        (optax.apply_if_finite(KEPT, 3), {"learning_rate": 0.4}),
        (nested(KEPT), {"learning_rate": 0.4}),
        (
            optax.partition({"slow": FIXED, "fast": KEPT}, GROUPS),
            {"learning_rate/slow": 0.25, "learning_rate/fast": 0.4},
        ),
        (optax.chain(KEPT, FIXED), {"learning_rate/0": 0.4, "learning_rate/1": 0.25}),
        (optax.adam(RATES), {}),  # which has the number of the step alone
    ],
)
def test_learning_rates_wherever_they_stand(optimizer, expected):
    """After two steps it is that of the second."""
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    state = optimizer.init(params)
    for _ in range(2):
        _, state = optimizer.update(params, state, params)
    assert learning_rates(state) == pytest.approx(expected)


def test_a_flat_row():
    row = {"step": 3, "loss": 1.0, "flow": {"a": {"step": 2, "rate": 0.5, "gates": {"f": 0.1}}}}
    row["flow"]["a"]["largest_singular_value"] = None
    assert flat(row) == {"loss": 1.0, "flow/a/rate": 0.5, "flow/a/gates/f": 0.1}
