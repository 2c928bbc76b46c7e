"""What every picture says of what it cannot draw; and that it draws where it is told to."""

from __future__ import annotations

import pytest
from close import says
from plot.results import MADE

import recurrax as rx

SEVERAL = {
    "decay": "Decay",
    "history": "Watched",
    "lag_profile": "LagProfile",
    "loss_gradients": "LossGradients",
    "lyapunov": "Lyapunov",
    "spectrum": "Spectrum",
}
ONE = {"gradient_map": "GradientMap", "paths": "Paths", "report": "Report"}


def test_every_picture_is_in_the_tables():
    # Of rx.train and rx.diagnose, not of rx.flow: each has tests of its own.
    own = {"advice", "comparison", "diagnosis", "training"}
    assert {*SEVERAL, *ONE, *own, "blank_axes", "save"} == set(rx.plot.__all__)


@pytest.mark.parametrize(("name", "kind"), SEVERAL.items())
def test_what_is_no_result(name, kind):
    picture, ax = getattr(rx.plot, name), rx.plot.blank_axes()
    with says(ValueError, f"results must hold at least one rx.flow.{kind}, got none"):
        picture({}, ax)
    with says(TypeError, f"results['a'] must be a rx.flow.{kind}, got str"):
        picture({"b": MADE[name](), "a": "x"}, ax)
    with says(
        TypeError,
        f"results must be a rx.flow.{kind}, or several by name in a dict; got str",
    ):
        picture("x", ax)
    assert not ax.get_lines()  # nothing is drawn before all is checked


@pytest.mark.parametrize(("name", "kind"), ONE.items())
def test_what_is_not_the_one_result(name, kind):
    with says(TypeError, f"result must be a rx.flow.{kind}, got dict"):
        getattr(rx.plot, name)({"a": MADE[name]()}, rx.plot.blank_axes())


@pytest.mark.parametrize("name", [*SEVERAL, *ONE])
def test_axes_given_are_drawn_on_and_returned(name, tmp_path):
    ax = rx.plot.blank_axes(4, 3)
    assert getattr(rx.plot, name)(MADE[name](), ax) is ax
    assert ax.has_data()
    assert "step" in ax.get_xlabel() or "index" in ax.get_xlabel()
    label = ax.get_ylabel()
    assert any(unit in label for unit in ("(nats", "(steps", "(no unit")), label
    rx.plot.save(ax, tmp_path / "p.png", dpi=50)
    assert (tmp_path / "p.png").stat().st_size > 2000


@pytest.mark.parametrize("name", [*SEVERAL, *ONE])
def test_new_axes_are_pyplots(name):
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("agg")
    ax = getattr(rx.plot, name)(MADE[name]())
    assert plt.gcf() is ax.figure
    plt.close(ax.figure)


@pytest.mark.parametrize("name", list(SEVERAL))
def test_several_by_name(name):
    ax = getattr(rx.plot, name)({"lstm": MADE[name](), "gru": MADE[name]()}, rx.plot.blank_axes())
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert any(text.startswith("lstm") for text in texts)
    assert any(text.startswith("gru") for text in texts)
