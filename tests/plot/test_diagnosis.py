"""The picture of a diagnosis."""

from __future__ import annotations

import numpy as np
import pytest
from close import says
from plot.results import STEPS, band, decay, entries, line, marks

import recurrax as rx
from recurrax.diagnosis import Diagnosis, GateSummary, LayerDiagnosis
from recurrax.plot.diagnosis import panels

GATES = (
    GateSummary("f", "sigmoid", 0.08, open=0.0, closed=0.75, saturated=0.75),
    GateSummary("g", "tanh", 0.5, open=0.25, closed=0.125, saturated=0.375),
)


def layer(name, *gates, scale=1.0):
    """The layer as a picture sees it; nothing else may be asked for."""
    fields = dict.fromkeys(LayerDiagnosis._fields)
    logs = scale * decay().log_norm
    made = {"name": name, "gates": gates, "loss_gradients": logs[::-1]}
    return LayerDiagnosis(**(fields | made | {"decay": rx.flow.Decay(logs, logs)}))


def result(*layers):
    return Diagnosis(layers, "noise", 1.0)


TWO = result(layer("layer0", *GATES), layer("layer1", GATES[0], scale=2.0))


@pytest.mark.parametrize(("field", "order"), [("decay", 1), ("loss", -1)])
def test_lines_hold_the_numbers(field, order):
    ax = rx.plot.diagnosis(TWO, rx.plot.blank_axes(), field=field)
    assert entries(ax) == ["layer0", "layer1"]
    for name, scale in (("layer0", 0.5), ("layer1", 1.0)):
        np.testing.assert_array_equal(line(ax, name).get_xdata(), STEPS)
        np.testing.assert_allclose(line(ax, name).get_ydata(), -scale * STEPS[::order])
    np.testing.assert_allclose(band(ax)[0], -0.5 * STEPS[::order] - 0.8)
    assert ax.get_ylabel().endswith("(nats)")


def test_a_gradient_that_holds_is_flat():
    ax = rx.plot.diagnosis(result(layer("a", scale=1e-6)), rx.plot.blank_axes())
    assert ax.get_ylim() == (-1.0, 1.0)


def test_bars_are_the_shares_of_each_gate():
    ax = rx.plot.diagnosis(TWO, rx.plot.blank_axes(), field="gates")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["layer0  f", "g", "layer1  f"]
    widths = [[bar.get_width() for bar in bars] for bars in ax.containers]
    assert widths == [[0.75, 0.125, 0.75], [0.25, 0.625, 0.25], [0.0, 0.25, 0.0]]
    starts = [[bar.get_x() for bar in bars] for bars in ax.containers]
    assert starts == [[0, 0, 0], [0.75, 0.125, 0.75], [1.0, 0.75, 1.0]]
    heights = [bar.get_y() for bar in ax.containers[0]]
    assert heights == sorted(heights)
    assert [text.get_text() for text in ax.texts] == ["0.08", "0.5", "0.08", "median"]
    assert len(entries(ax)) == 3


def test_a_layer_that_does_not_tell_its_gates():
    ax = rx.plot.diagnosis(result(layer("own")), rx.plot.blank_axes(), field="gates")
    assert [text.get_text() for text in ax.texts] == ["no layer tells its gates"]


@pytest.mark.parametrize("parts", [1, 8])
def test_all_side_by_side(parts, tmp_path):
    names = [f"$encoder/layer{i // 2}/{('forward', 'backward')[i % 2]}" for i in range(parts)]
    first = panels(result(*(layer(name, *GATES) for name in names)))
    _, gates, loss = first.figure.axes
    assert entries(first) == names
    assert len(gates.get_yticklabels()) == 2 * parts
    assert loss.get_legend() is None  # it is the first one's
    rx.plot.save(first, tmp_path / "p.png", dpi=40)
    assert (tmp_path / "p.png").stat().st_size > 2000


def test_what_is_cut_off_is_marked_and_said():
    cut = layer("a")._replace(loss_gradients=np.where(STEPS < 3, -np.inf, 0.0)[:, None])
    loss = panels(result(cut)).figure.axes[2]
    assert marks(loss) == {"v": [1, 2]}
    assert entries(loss) == ["a", r"$-\infty$"]


def test_what_cannot_be_drawn():
    with says(TypeError, "result must be what rx.diagnose returns, got Decay"):
        rx.plot.diagnosis(decay())
    with says(ValueError, "field must be one of 'decay', 'gates', 'loss'; got 'horizon'"):
        rx.plot.diagnosis(TWO, field="horizon")
