"""`rx.advise` from the cell to the verdict."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx
from recurrax.advice.prove import sentence

KEY = jax.random.key(0)
TASK = rx.tasks.adding(24)
CELL = rx.cells.lstm(2, 4)


@pytest.fixture(scope="module")
def proof():
    told = []
    options = {
        "cures": ["forget bias", "chrono", "uniform gate", "omega"],
        "steps": 30,
        "batch_size": 8,
        "seeds": 2,
        "horizon": 20,
        "prove": True,
    }
    found = rx.advise(CELL, TASK, key=KEY, tell=lambda *words: told.append(words), **options)
    return found, told


def names(options):
    return [option.candidate.name for option in options]


def test_options_are_ranked_and_the_default_is_among_them(proof):
    found, told = proof
    distances = [option.distance for option in found.options]
    assert distances == sorted(distances)
    assert found.default.candidate.cell == CELL
    assert "default" in names(found.options)
    assert {leaf.shape for option in found.options for leaf in option.start} == {(2,)}
    assert (found.wanted, found.length, found.seeds) == (20, 24, 2)
    assert found.clip > 0
    count = len(found.options)
    assert [done for done, total, _ in told[:count]] == [*range(1, count + 1)]


def test_the_best_three_and_the_default_are_trained_alike(proof):
    found, _ = proof
    trained = names(option for option in found.options if option.trial is not None)
    assert set(trained) == {*names(found.options[:3]), "default"}
    assert [trial.cell for trial in found.proof.trials] == trained
    assert all(trial.step[-1] == 30 for trial in found.proof.trials)
    assert found.verdict.startswith("After training")
    assert found.verdict.count("of 2 seeds") == len(trained)


def test_the_verdict_says_whether_the_first_choice_did_best(proof):
    found, _ = proof

    def verdict(of_the_first: float, others: float = 0.1) -> str:
        options = []
        for number, option in enumerate(found.options):
            if option.trial is not None:
                value = of_the_first if number == 0 else others
                trial = option.trial._replace(
                    final={"mse": np.full(2, value), "loss": np.full(2, value)},
                    solved_at=np.full(2, np.nan),
                    solved_at_end=np.zeros(2, bool),
                    diverged=np.zeros(2, bool),
                )
                option = option._replace(trial=trial)
            options.append(option)
        return sentence(found._replace(options=tuple(options)), TASK)

    assert "did not train best" in verdict(0.15)
    assert "No other did better" in verdict(0.05)
    assert "None did better than a guess without memory" in verdict(0.2, others=0.17)


def test_sequences_of_ones_own_are_measured_and_not_trained_on():
    xs = np.random.default_rng(0).normal(size=(20, 3, 2)).astype(np.float32)
    found = rx.advise(rx.cells.elman(2, 4), xs, key=KEY, seeds=2, cures=["critical", "gain"])
    assert found.proof is None
    assert (found.wanted, found.data) == (20, "the data given, T = 20")
    assert "Nothing was trained" in found.verdict
    assert np.isfinite(found.best.distance)


def test_a_step_of_ones_own_without_weights_to_scale_has_few_cures():
    def step(params, state, x):
        state = 0.5 * state + x @ params
        return state, state

    cell = rx.Cell(
        init=lambda key: jax.random.normal(key, (2, 3)),
        initial_state=lambda params, batch_shape=(): jnp.zeros((*batch_shape, 3)),
        step=step,
    )
    xs = jax.random.normal(KEY, (16, 4, 2))
    found = rx.advise(cell, xs, key=KEY, cures=["gain", "chrono", "orthogonal"])
    assert names(found.options) == ["default"]
    assert "params has no w_rec" in found.skipped["gain"]
    assert {*found.skipped} == {"gain", "chrono", "orthogonal"}
    assert found.verdict.startswith("16 steps are wanted, and the gradient of the cell as given")
    assert "nothing that was tried comes nearer" in found.verdict
    # A half is left of a gradient each step, so a twentieth after 5: that is what is measured.
    np.testing.assert_allclose(found.best.start.horizon, 5)
    np.testing.assert_allclose(found.best.start.rate, np.log(0.5), rtol=1e-5)
    assert found.best.distance == pytest.approx(np.log(16 / 5), abs=1e-4)
    with pytest.raises(TypeError, match="cannot be run on data of 3 features"):
        rx.advise(cell, jnp.ones((16, 4, 3)), key=KEY)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"horizon": 0}, ValueError, "horizon must be from 1 to T = 24 steps"),
        ({"horizon": 25}, ValueError, "Give longer sequences for a longer one"),
        ({"horizon": "far"}, TypeError, "horizon"),
        ({"data": jnp.ones((9, 2, 3))}, ValueError, "the cell takes 2 features, but 3 come in"),
        ({"data": jnp.ones((9, 2))}, ValueError, r"sequences \[T, B, I\], time first"),
        ({"data": jnp.ones((0, 2, 2))}, ValueError, "none of them 0"),
        ({"data": jnp.full((9, 2, 2), jnp.nan)}, ValueError, "data .*finite"),
        ({"data": jnp.ones((9, 2, 2), int)}, TypeError, "must be floating point"),
        ({"data": "adding"}, TypeError, "data must be a rx.tasks.Task, or sequences"),
        ({"data": jnp.ones((9, 2, 2)), "prove": True}, ValueError, "what is to be learnt"),
        ({"cell": rx.bidirectional(CELL)}, TypeError, "rx.advise takes a rx.Cell"),
        ({"key": 0}, TypeError, "key"),
        ({"seeds": 0}, ValueError, "seeds"),
        ({"cures": ["chorno"]}, ValueError, "no cure 'chorno'; did you mean 'chrono'"),
        ({"cures": "chrono"}, TypeError, "cures must be a list of names"),
        ({"steps": 0, "prove": True}, ValueError, "steps"),
        ({"learning_rate": -1.0, "prove": True}, ValueError, "learning_rate"),
    ],
)
def test_bad_input_is_one_clear_sentence(change, error, words):
    given = {"cell": CELL, "data": TASK, "key": KEY} | change
    with pytest.raises(error, match=words):
        rx.advise(given.pop("cell"), given.pop("data"), **given)
