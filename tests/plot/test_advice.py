"""The picture of advice."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import recurrax as rx
from recurrax.advice import Advice, Candidate, Option, Start
from recurrax.plot.advice import panels
from recurrax.train import Cure


def option(name: str, **changed) -> Option:
    fields = {"rate": -0.1, "horizon": 30.0, "growth": -2.0, "spread": 0.5, "gradient_norm": 3.0}
    start = Start(**{key: np.broadcast_to(v, 3) for key, v in (fields | changed).items()})
    return Option(Candidate(name, "", rx.cells.elman(1, 1), Cure(), ""), start, 1.0, None)


def result(*options: Option) -> Advice:
    words = {"subject": "a cell", "data": "a task", "verdict": "", "skipped": {}}
    numbers = {"length": 50, "wanted": 40.0, "seeds": 3, "clip": 1.0, "seconds": 1.0}
    return Advice(options=options, default=options[-1], **words, **numbers)


FOUND = result(
    option("best", horizon=[np.inf, 50, np.inf], gradient_norm=[1, 2, 900]),
    option("gone", horizon=np.nan, gradient_norm=np.nan),
    option("default", spread=[0.0, 2.5, 1.0]),
)


def marks(ax, kind):
    return [line for line in ax.lines if line.get_marker() == kind and len(line.get_xdata())]


def test_each_seed_is_a_mark_and_what_has_no_end_is_beyond_all_others():
    ax = rx.plot.advice(FOUND, rx.plot.blank_axes())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["best", "gone", "default"]
    found = np.concatenate([line.get_xdata() for line in marks(ax, "o")])
    assert {30.0, 50.0} <= set(found.tolist())
    endless = np.concatenate([line.get_xdata() for line in marks(ax, ">")])
    assert endless.min() > 50
    assert 40.0 in [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]


@pytest.mark.parametrize("field", ["spread", "gradient_norm"])
def test_other_fields_reach_as_far_as_their_largest_number(field):
    ax = rx.plot.advice(FOUND, rx.plot.blank_axes(), field=field)
    largest = np.nanmax([getattr(o.start, field) for o in FOUND.options])
    assert max(float(line.get_xdata().max()) for line in marks(ax, "o")) == largest
    assert ax.get_xscale() == ("linear" if field == "spread" else "log")


def test_numbers_within_a_decade_have_labels():
    ax = rx.plot.advice(result(option("best"), option("default")), rx.plot.blank_axes())
    ax.figure.canvas.draw()
    assert ax.get_xscale() == "linear"
    assert any(label.get_text() for label in ax.get_xticklabels())


def test_a_proof_adds_how_they_learned():
    plain = panels(FOUND).figure
    assert len(plain.axes) == 3
    task, cells = rx.tasks.adding(4), {"best": rx.cells.elman(2, 2), "default": rx.cells.gru(2, 2)}
    options = {"key": jax.random.key(0), "steps": 4, "report_every": 2, "seeds": 2}
    proof = rx.train.compare(task, cells, **options)
    assert len(panels(FOUND._replace(proof=proof)).figure.axes) == 4


def test_mistakes():
    with pytest.raises(TypeError, match=r"must be what rx.advise returns"):
        rx.plot.advice(3)
    with pytest.raises(ValueError, match="field"):
        rx.plot.advice(FOUND, rx.plot.blank_axes(), field="rate")
