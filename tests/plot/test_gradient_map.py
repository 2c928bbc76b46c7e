"""The heat map over all pairs of times."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from close import says
from matplotlib import colormaps
from plot.results import gradient_map

import recurrax as rx


def draw(result, **options):
    """The axes, the mesh and the colour bar of a picture."""
    ax = rx.plot.gradient_map(result, rx.plot.blank_axes(), **options)
    (mesh,) = ax.collections
    return ax, mesh, mesh.colorbar


def lags(made):
    return made.targets[:, None] - made.sources


def of(values):
    """A map of these logs, one example."""
    return gradient_map(np.asarray(values, float), count=len(values))


def test_mesh_holds_the_median_where_there_is_influence():
    made = gradient_map()
    ax, mesh, bar = draw(made)
    shown, lag = mesh.get_array(), lags(made)
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), lag < 0)
    np.testing.assert_allclose(shown.compressed(), -0.25 * lag[lag >= 0], atol=1e-12)
    assert mesh.get_clim() == (-3.0, 0.0)
    assert bar.extend == "neither"
    assert bar.ax.get_ylabel().endswith("(nats, median of the batch)")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("source s (steps)", "target t (steps)")


def test_cells_are_centred_on_their_times():
    made = gradient_map()
    corners = draw(made)[1].get_coordinates()
    np.testing.assert_array_equal(corners[0, :, 0], np.append(made.sources - 1, 11))
    np.testing.assert_array_equal(corners[:, 0, 1], np.append(made.targets - 1, 13))


def test_of_the_microscope_itself():
    w = 0.5 * jnp.eye(2)
    linear = lambda w, h, x: (h @ w, h)  # noqa: E731
    found = rx.flow.gradient_map(linear, w, jnp.zeros(2), jnp.zeros((9, 2)), every=3)
    _, mesh, bar = draw(found)
    expected = lags(found)[lags(found) >= 0] * np.log(0.5)
    np.testing.assert_allclose(mesh.get_array().compressed(), expected, atol=1e-5)
    assert bar.ax.get_ylabel().endswith("(nats)")


@pytest.mark.parametrize(
    ("scale", "extend", "limits"),
    [(-10.0, "min", (-16, 0)), (10.0, "max", (0, 16)), (-0.5, "neither", (-6, 0))],
)
def test_range_ends_where_float32_does_and_says_so(scale, extend, limits):
    made = gradient_map()
    lag = lags(made)
    _, mesh, bar = draw(of(np.where(lag >= 0, scale * lag, -np.inf)))
    assert (mesh.get_clim(), bar.extend) == (limits, extend)


def test_limits_of_ones_own():
    _, mesh, bar = draw(gradient_map(), limits=(-2.0, -1.0))
    assert (mesh.get_clim(), bar.extend) == ((-2.0, -1.0), "both")


def test_a_zero_derivative_is_shown_and_is_not_blank():
    values = np.where(lags(gradient_map()) >= 0, 0.0, -np.inf)
    values[4, 0] = -np.inf
    _, mesh, bar = draw(of(values))
    assert not np.ma.getmaskarray(mesh.get_array())[4, 0]
    assert bar.extend == "min"
    colours = mesh.to_rgba(mesh.get_array())
    np.testing.assert_array_equal(colours[4, 0], (0, 0, 0, 1))  # the colour of the arrow
    assert (colours[5, 0] != colours[4, 0]).any()


def test_rounding_alone_is_not_blown_up():
    noise = 1e-7 * np.random.default_rng(0).normal(size=(6, 6))
    assert np.ptp(draw(of(noise))[1].get_clim()) == pytest.approx(1)


@pytest.mark.parametrize("value", [-100.0, 0.0, 100.0, -np.inf, np.nan])
def test_one_pair(value, tmp_path):
    ax, mesh, _ = draw(of([[value]]))
    low, high = mesh.get_clim()
    assert high - low >= 1
    rx.plot.save(ax, tmp_path / "p.png", dpi=40)


def test_map_reads_in_grey():
    """Lightness grows all along, and its two ends go on beyond it."""
    mesh = draw(gradient_map())[1]
    assert mesh.cmap.name == "cividis"
    rgb = colormaps["cividis"](np.linspace(0, 1, 64))[:, :3]
    ends = [mesh.cmap.get_under()[:3], *rgb, mesh.cmap.get_over()[:3]]
    assert (np.diff(np.dot(ends, [0.299, 0.587, 0.114])) > 0).all()


def test_colour_bar_is_as_tall_as_the_axes():
    ax = rx.plot.blank_axes(4, 7)
    rx.plot.gradient_map(gradient_map(), ax)
    ax.figure.draw_without_rendering()
    bar = ax.collections[0].colorbar.ax.get_window_extent()
    assert bar.height == pytest.approx(ax.get_window_extent().height, rel=1e-3)
    assert bar.x1 < ax.figure.bbox.x1


def test_limits_are_two_numbers():
    for wrong in (3, (1, 2, 3)):
        with says(TypeError, f"limits must be two numbers (low, high), in nats; got {wrong!r}"):
            draw(gradient_map(), limits=wrong)
    with says(ValueError, "limits must have the lower one first, got (1, 0)"):
        draw(gradient_map(), limits=(1, 0))
    with says(ValueError, "limits must be finite, got -inf"):
        draw(gradient_map(), limits=(-np.inf, 0))
