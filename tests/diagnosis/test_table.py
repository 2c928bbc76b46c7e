"""A table of models that are broken on purpose: what is wrong with each is named first."""

from __future__ import annotations

import collections

import pytest
from diagnosis.recipes import BROKEN, HEALTHY

import recurrax as rx
from recurrax.diagnosis import records


def weights_of(model, library):
    """Somebody's weights, and what those do not tell."""
    options = {}
    if library == "torch":
        weights = rx.interop.to_torch(model.cell, model.params, prefix="model.rnn")
    else:
        weights = {"params": rx.interop.to_flax(model.cell, model.params, prefix="cell")}
    return weights, options


def diagnosed(recipe, seed, library):
    """The causes of one model, the first one first."""
    model = recipe.make(seed)
    weights, _ = weights_of(model, library)
    options = {}
    if recipe.kind.startswith("elman"):
        options["activation"] = "relu" if recipe.kind == "elman-relu" else "tanh"
    (layer,) = rx.diagnose(weights, xs=model.xs, **options).layers
    assert layer.kind == recipe.kind
    return [finding.cause for finding in layer.findings]


@pytest.fixture(scope="module")
def table():
    """The causes of every broken model, in two libraries' formats by turns."""
    rows = []
    for i, recipe in enumerate(BROKEN):
        library = ("torch", "flax")[i % 2]
        rows.append((recipe.cause, recipe.kind, library, diagnosed(recipe, i, library)))
    return rows


def test_the_table_has_every_cause_at_least_twice_and_in_two_formats(table):
    counts = collections.Counter(cause for cause, *_ in table)
    assert set(counts) == set(records.CAUSES) - {records.HEALTHY}
    assert min(counts.values()) >= 2
    assert len(table) >= 20


def test_the_cause_that_is_named_first_is_the_right_one(table):
    wrong = [row for row in table if row[3][0] != row[0]]
    assert len(wrong) <= len(table) - 19, wrong
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("place", range(len(HEALTHY)))
def test_what_is_healthy_is_called_healthy(place):
    recipe = HEALTHY[place]
    assert diagnosed(recipe, place, ("torch", "flax")[place % 2]) == [records.HEALTHY]
