"""How a diagnosis prints, and how its layers are found."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import recurrax as rx
from recurrax.diagnosis import records
from recurrax.diagnosis.records import Finding, GradientFlow, count_text, pace


@pytest.fixture(scope="module")
def found():
    both = rx.bidirectional(rx.cells.lstm(2, 4, forget_bias=-4.0))
    return rx.diagnose(both, both.init(jax.random.key(0)), length=20)


def test_a_rate_in_words():
    assert pace(-np.log(2) / 1.3) == "halves every 1.3 steps"
    assert pace(np.log(2) / 20) == "doubles every 20 steps"
    assert pace(np.log(0.25)) == "falls to 0.25 of itself a step"
    assert pace(np.log(3.0)) == "grows 3-fold a step"
    assert pace(0.0) == "stays as large"
    assert pace(-np.inf) == "is erased"
    assert [count_text(n) for n in (1.0, 9.54, 139.7, np.inf)] == ["1", "9.5", "140", "endless"]


def test_a_finding_is_its_sentence_its_cure_and_what_that_changed():
    finding = Finding(
        cause=records.FORGET_SHUT,
        sentence="the forget gates of layer1 are shut (median 0.08)",
        cure="raise the bias of f by 3.1",
        code="params",
        before=GradientFlow(9.0, -0.3),
        after=GradientFlow(140.0, -0.02),
    )
    assert str(finding) == (
        "FORGET GATES SHUT: the forget gates of layer1 are shut (median 0.08); raise the bias of f "
        "by 3.1 (with it: horizon 9 -> 140)."
    )
    bare = finding._replace(cure=None, code=None, after=None)
    assert str(bare) == ("FORGET GATES SHUT: the forget gates of layer1 are shut (median 0.08).")
    exploded = GradientFlow(np.inf, 0.5, 0.9), GradientFlow(30.0, -0.1, 0.2)
    told = str(finding._replace(before=exploded[0], after=exploded[1]))
    assert told.endswith("(with it: saturated 90% -> 20%, rate +0.5 -> -0.1 nats a step).")


def test_a_diagnosis_prints_as_tables(found):
    text = str(found)
    assert text.splitlines()[0] == (
        "fed: unit normal noise [20, 8, 2]: no data was given; measured on 4 sequences of 20 steps"
    )
    for words in ("layer0/forward\n", "layer0/backward\n", "lstm, 2 inputs, 4 units", "gate f"):
        assert words in text
    assert text.count("FORGET GATES SHUT: the forget gates of layer0/") == 2
    assert found.table() == text
    assert repr(found) == (
        "Diagnosis(layer0/forward: forget gates shut, layer0/backward: forget gates shut; print it "
        "for the tables)"
    )


def test_a_layer_by_name(found):
    assert found.layer("layer0/backward").name == "layer0/backward"
    assert not found.healthy
    with pytest.raises(ValueError, match=r"one of the layers \('layer0/forward', .*got 'layer1'"):
        found.layer("layer1")
