"""A table of models that are broken on purpose: what is wrong with each is named first.

All that needs many models is here, since models of one size share their programs.
"""

from __future__ import annotations

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diagnosis.recipes import BROKEN, HEALTHY

import recurrax as rx
from recurrax.diagnosis import records
from recurrax.diagnosis.measure import Layer, measure

LIBRARIES = ("torch", "flax")


def weights_of(model, library):
    """The weights as this library has them."""
    if library == "torch":
        return rx.interop.to_torch(model.cell, model.params, prefix="model.rnn")
    return {"params": rx.interop.to_flax(model.cell, model.params, prefix="cell")}


def diagnosed(recipe, seed, library):
    """What is said of the weights of one model in the format of a library."""
    model, options = recipe.make(seed), {}
    if recipe.kind.startswith("elman"):  # which no file tells
        options["activation"] = "relu" if recipe.kind == "elman-relu" else "tanh"
    (layer,) = rx.diagnose(weights_of(model, library), xs=model.xs, **options).layers
    assert layer.kind == recipe.kind
    return layer


@pytest.fixture(scope="module")
def table():
    """Every broken model, in two libraries' formats by turns: recipe, data and diagnosis."""
    rows = []
    for i, recipe in enumerate(BROKEN):
        rows.append((recipe, recipe.make(i).xs, diagnosed(recipe, i, LIBRARIES[i % 2])))
    return rows


def test_the_table_has_every_cause_twice():
    counts = collections.Counter(recipe.cause for recipe in BROKEN)
    assert set(counts) == set(records.CAUSES) - {records.HEALTHY}
    assert min(counts.values()) >= 2
    assert len(BROKEN) >= 20


def test_the_cause_that_is_named_first_is_the_right_one(table):
    wrong = [(recipe.cause, layer) for recipe, _, layer in table if layer.cause != recipe.cause]
    assert len(wrong) <= 1, wrong


def test_what_is_healthy_is_called_healthy():
    said = [diagnosed(recipe, i, LIBRARIES[i % 2]) for i, recipe in enumerate(HEALTHY)]
    assert all(layer.healthy and len(layer.findings) == 1 for layer in said), said


def test_the_code_of_a_cure_does_what_was_measured(table):
    """It is run on the weights and data as it stands, and these are measured again."""
    tried = collections.Counter()
    for _, xs, layer in table:
        for finding in layer.findings:
            if finding.code is None:
                continue
            names = {"params": layer.params, "xs": jnp.asarray(xs), "jnp": jnp, "jax": jax}
            exec(finding.code, names | {"rx": rx}, names)
            size = xs.shape[1]
            state = layer.cell.initial_state(names["params"], (size,))
            found = measure(Layer("", layer.kind, layer.cell, names["params"], state, names["xs"]))
            np.testing.assert_allclose(found.flow.rate, finding.after.rate, rtol=0.05, atol=0.02)
            assert found.overflow is None
            tried[finding.cause] += 1
    assert set(tried) == set(records.CAUSES) - {records.HEALTHY}


def test_a_cure_is_printed_with_what_it_makes_better(table):
    for recipe, _, layer in table:
        finding = layer.findings[0]
        before, after = finding.before, finding.after
        assert after is not None, recipe
        if recipe.cause == records.GAIN_LARGE:
            assert abs(after.rate) < 0.05 < before.rate
        elif recipe.cause in (records.FORGET_SHUT, records.UPDATE_OPEN):
            assert after.horizon > 5 * before.horizon
        elif recipe.cause in (records.GAIN_SMALL, records.DEAD_RELUS):
            assert after.horizon > 1.2 * before.horizon
        else:  # a gradient may well have lived longer along gates that were stuck
            assert after.saturated < 0.5 < before.saturated
        assert " (with it: " in str(finding)


def test_sentences_have_the_numbers(table):
    said = {layer.cause: str(layer.findings[0]) for _, _, layer in table}
    for cause, words in {
        records.FORGET_SHUT: "the forget gates of layer0 are shut (median 0.",
        records.UPDATE_OPEN: "each step writes over the state (z, what is kept of it, has median",
        records.LARGE_INPUTS: "the inputs of layer0 are large (root mean square ",
        records.LARGE_WEIGHTS: "the weights of layer0 are large (gain ",
        records.GAIN_SMALL: "the recurrent gain of layer0 is too small (gain 0.",
        records.GAIN_LARGE: "and clip gradients while training: rx.cures.clip_by_global_norm(1.0)",
        records.DEAD_RELUS: " of the relus of layer0 are dead, 0 at every step of every example",
        records.INPUTS_DWARF: "the input weights of layer0 dwarf the state (gain ",
        records.BIAS_PINS: "where nothing passes (",
    }.items():
        assert words in said[cause], said[cause]
