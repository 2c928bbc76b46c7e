"""The picture shows the data it was given."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from close import says

import recurrax as rx


@pytest.fixture
def results():
    steps = jnp.arange(1.0, 21.0)[:, None]
    spread = jnp.linspace(-1, 1, 11)
    return {
        "elman": rx.flow.Decay(-0.5 * steps + spread, -0.5 * steps),
        "lstm": rx.flow.Decay(0.1 * steps + spread, 0.1 * steps),
    }


def test_lines_bands_and_scalars_hold_the_numbers(results):
    ax = rx.plot.decay(results, rx.plot.blank_axes())
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_allclose(lines["elman"].get_xdata(), np.arange(1, 21))
    np.testing.assert_allclose(lines["elman"].get_ydata(), -0.5 * np.arange(1, 21), atol=1e-6)
    np.testing.assert_allclose(lines["lstm"].get_ydata(), 0.1 * np.arange(1, 21), atol=1e-6)
    bands = [c.get_paths()[0].vertices for c in ax.collections]
    assert len(bands) == 2
    np.testing.assert_allclose(bands[1][:, 1].max(), 2.0 + 0.8, atol=1e-6)
    powers = [line for line in ax.get_lines() if line.get_linestyle() == ":"]
    np.testing.assert_allclose(powers[0].get_ydata()[-1], 20 * np.log(0.9))
    np.testing.assert_allclose(powers[1].get_ydata()[-1], 20 * np.log(1.1))
    assert {text.get_text() for text in ax.texts} == {"$0.9^t$", "$1.1^t$"}


def test_labels_units_and_grey(results):
    ax = rx.plot.decay(results, rx.plot.blank_axes())
    assert ax.get_xlabel() == "steps t"
    assert "nats" in ax.get_ylabel()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["elman", "lstm"]
    lines = [line for line in ax.get_lines() if line.get_label() in results]
    assert len({line.get_linestyle() for line in lines}) == 2


def test_single_result_and_new_axes(results):
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    ax = rx.plot.decay(results["lstm"]._replace(log_norm=results["lstm"].log_norm[:, 0]))
    assert ax.get_legend() is None
    plt.close(ax.figure)


def test_renders(results, tmp_path):
    ax = rx.plot.decay(results, rx.plot.blank_axes(4, 3))
    ax.figure.savefig(tmp_path / "p.png", dpi=50)
    assert (tmp_path / "p.png").stat().st_size > 2000


def test_bad_scalars(results):
    with says(ValueError, "scalars must be positive, got -1"):
        rx.plot.decay(results, rx.plot.blank_axes(), scalars=(-1,))
