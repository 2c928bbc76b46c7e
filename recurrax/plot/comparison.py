"""The picture of a comparison: who learns, and what the gradient flow was before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax import checks
from recurrax.literal import literal
from recurrax.plot import curves
from recurrax.plot.axes import axes_or_new, blank_axes
from recurrax.plot.over_seeds import final, known, outcome, ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from recurrax.train.compare import Comparison

_FIELDS = ("learning", "rate", "horizon")
_BEYOND = 1.6  # times the longest finite horizon: where one without end is marked


def comparison(result: Comparison, ax: Axes | None = None, *, field: str = "learning") -> Axes:
    """Draw how each pair of a comparison learned, or its gradient flow before and after.

    Args:
      result: what `rx.train.compare` returns. A cell has one colour, a cure one marker.
      ax: matplotlib axes to draw on; None makes new ones.
      field: `"learning"`, the task's metric against the training step, the median of the seeds in
        a band from the lowest to the highest of up to nine seeds (the middle 80 % of more), with
        the baseline and the goal across, and a star where the median is at the end on sequences
        that were not trained on. A seed whose loss is not finite counts as the worst; where the
        median is, a mark stands at the edge. The legend says how many seeds reached the goal, are
        there at the end, and have diverged. `"rate"` or `"horizon"`, one row a pair, an open mark
        at the start and a filled one at the end, medians of the seeds of which it is known. A
        horizon without end is a triangle beyond all others; a pair of which nothing is known has
        no marks.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if the result is no comparison.
      ValueError: if there is no such field.

    Example:
      >>> import jax, recurrax as rx
      >>> cells = {"a": rx.cells.elman(2, 3), "b": rx.cells.gru(2, 3)}
      >>> key, task = jax.random.key(0), rx.tasks.adding(4)
      >>> found = rx.train.compare(task, cells, key=key, steps=4, report_every=2)
      >>> ax = rx.plot.comparison(found, rx.plot.blank_axes(), field="rate")
      >>> [label.get_text() for label in ax.get_yticklabels()]
      ['a, none', 'b, none']
    """
    if not hasattr(result, "trials"):
        raise TypeError(
            f"result must be what rx.train.compare returns, got {type(result).__name__}"
        )
    checks.check_choice("field", field, _FIELDS)
    ax = axes_or_new(ax)
    # A cell has one colour, a cure one marker.
    cells = list(dict.fromkeys(trial.cell for trial in result.trials))
    cures = list(dict.fromkeys(trial.cure for trial in result.trials))
    table = curves.style_table(len(cells), len(cures))
    styles = [table[cells.index(t.cell)][cures.index(t.cure)] for t in result.trials]
    if field == "learning":
        _learning(ax, result, styles)
    else:
        _flow(ax, result, styles, field)
    return ax


def panels(result: Comparison) -> Axes:
    """All three fields side by side on one figure; returns the first axes."""
    rows = len(result.trials)
    figure: Any = blank_axes(13.0, max(4.8, 1.6 + 0.3 * rows)).figure
    figure.clear()
    axes = figure.subplots(1, 3, width_ratios=(1.6, 1, 1))
    for ax, field in zip(axes, _FIELDS, strict=True):
        comparison(result, ax, field=field)
    axes[0].set_title(literal(f"{result.task}, T = {result.length}"))
    axes[2].tick_params(labelleft=False)
    first: Axes = axes[0]
    return first


def _learning(ax: Axes, result: Comparison, styles: list[curves.Style]) -> None:
    metric, relation, goal = result.goal
    rows = []
    for trial, style in zip(result.trials, styles, strict=True):
        values = ranked(trial.history[metric], ~np.isfinite(trial.history["loss"]), relation)
        label = f"{trial.cell}, {trial.cure}: {outcome(trial)}"
        rows.append(curves.Curve(trial.step, values, style, label))
    curves.draw(ax, rows)
    for trial, style in zip(result.trials, styles, strict=True):
        height = float(np.median(final(trial, metric, relation)))
        if np.isfinite(height):  # a star at the last step
            look: dict[str, Any] = {"linestyle": "none", "clip_on": False, "zorder": 3}
            look |= {"marker": "*", "markersize": 11, "color": style.colour}
            ax.plot(trial.step[-1:], [height], **look)
    curves.draw_level(ax, result.baseline[metric], "a guess without memory")
    ax.axhline(goal, color="0.3", linewidth=0.8, zorder=1, label="solved")
    if relation.startswith("<"):
        ax.set_yscale("log")
    seeds = np.shape(rows[0].values)[1]
    label = f"{literal(metric.replace('_', ' '))}  (median and range of {seeds} seeds)"
    curves.finish(ax, "training step", label)


def _flow(ax: Axes, result: Comparison, styles: list[curves.Style], field: str) -> None:
    ends = np.array(
        [[known(getattr(flow, field))[0] for flow in (t.start, t.end)] for t in result.trials]
    )
    beyond = np.isposinf(ends)
    finite = ends[np.isfinite(ends)]
    far = _BEYOND * max(finite.max() if finite.size else 1.0, result.length)
    places = np.where(beyond, far, ends) if field == "horizon" else ends
    for row, ((start, end), style) in enumerate(zip(places, styles, strict=True)):
        look: dict[str, Any] = {"linestyle": "none", "clip_on": False, "markersize": 7}
        look["color"] = style.colour
        ax.plot([start, end], [row, row], color=style.colour, linewidth=1.2, alpha=0.6)
        for x, face, endless in ((start, "white", beyond[row, 0]), (end, None, beyond[row, 1])):
            marker = ">" if endless else "o"
            ax.plot([x], [row], marker=marker, markerfacecolor=face or style.colour, **look)
    if field == "horizon":
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter("")  # its labels would run into each other
        ax.axvline(result.length, zorder=0, **curves.GUIDE)
        ax.text(result.length, -0.6, " T", color=curves.GUIDE_TEXT, va="center", fontsize=9)
        ax.set_xlabel("horizon, start (open) to end\n(steps; a triangle has no end)")
    else:
        ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.set_xlabel("rate of the gradient, start (open) to end\n(nats a step)")
    ax.set_yticks(range(len(ends)), [literal(f"{t.cell}, {t.cure}") for t in result.trials])
    ax.set_ylim(len(ends) - 0.5, -0.9)
