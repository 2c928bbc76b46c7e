"""Names of a user in a picture: no mathematics, no hidden labels, no letter that breaks it."""

from __future__ import annotations

import numpy as np
import pytest
from plot import results as made

import recurrax as rx
from recurrax.literal import is_literal, legend_label, literal, plain

NAMES = [r"$\frac{a$ and {", "_hidden", "[bold]", "bad\udcff", "two\nlines", "日本", r"a\$b$"]
SHOWN = [r"$\frac{a$ and {", "_hidden", "[bold]", "bad\ufffd", r"two\nlines", "日本", r"a\$b$"]


@pytest.mark.parametrize("kind", ["decay", "lag_profile", "loss_gradients", "lyapunov", "spectrum"])
def test_a_legend_shows_every_name(kind, tmp_path):
    results = {name: getattr(made, kind)() for name in NAMES}
    ax = getattr(rx.plot, kind)(results, rx.plot.blank_axes())
    text = "|".join(made.entries(ax))
    for name in SHOWN:
        assert name in text
    rx.plot.save(ax, tmp_path / "p.png", dpi=40)


def test_a_legend_of_the_users_own_shows_them_too(tmp_path):
    """What is drawn is labelled so that matplotlib's own legend shows it."""
    ax = rx.plot.decay({name: made.decay() for name in NAMES[:2]}, rx.plot.blank_axes())
    ax.plot([0, 1], label=r"$\alpha$")
    ax.legend()
    drawn = [text._preprocess_math(text.get_text()) for text in ax.get_legend().get_texts()]
    assert drawn == [(NAMES[0], False), (" _hidden", False), (r"$\alpha$", True)]
    rx.plot.save(ax, tmp_path / "p.png", dpi=40)


def test_mathematics_of_our_own_stays():
    logs = np.full((12, 1), -np.inf)
    ax = rx.plot.decay({"$x$": made.decay()._replace(log_norm=logs)}, rx.plot.blank_axes())
    texts = {text.get_text(): text.get_parse_math() for text in ax.get_legend().get_texts()}
    assert texts == {"$x$": False, r"$-\infty$": True}


def test_titles_ticks_levels_and_labels_of_axes(tmp_path):
    name = r"$\frac{m$"
    history = {"step": np.array([1, 2]), "loss": np.ones(2), name: np.ones(2)}
    levels = {"_goal $": 0.5}
    ax = rx.plot.training({"_a": history}, rx.plot.blank_axes(), field=name, levels=levels)
    assert made.entries(ax) == ["_a", "_goal $ = 0.5"]
    assert ax.get_ylabel() == r"\$\frac{m\$"
    rx.plot.save(ax, tmp_path / "p.png", dpi=40)
    watched = made.watched()._replace(gates={name: np.arange(6.0)})
    ax = rx.plot.history(watched, rx.plot.blank_axes(), field=f"gates.{name}")
    rx.plot.save(ax, tmp_path / "p.png", dpi=40)
    theory = rx.plot.lyapunov(made.lyapunov(), rx.plot.blank_axes(), theory={"_$t$": 0.0})
    assert "_$t$" in made.entries(theory)


def test_there_and_back():
    for name in NAMES:
        assert is_literal(literal(name))
    assert plain(legend_label(r"_a\$b$")) == r"_a\$b$"
    assert legend_label(None) is None
    assert not is_literal("$x$ and $y$")
    assert len(literal("x" * 3000)) == 99
