"""Curves with a band over the batch, which differ in colour and, on a grey printer, in dashes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax.literal import is_literal, legend_label, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

# Colours of Okabe and Ito, which the colour-blind can tell apart, each with dashes of its own.
_LOOKS: dict[str, Any] = {"#0072B2": "-", "#D55E00": "--", "#009E73": "-."}
_LOOKS |= {"#CC79A7": (0, (5, 1, 1, 1, 1, 1)), "#000000": (0, (1, 1)), "#E69F00": (0, (7, 2))}
_MARKERS = (None, "o", "s", "^", "D", "P", "X")
STEPS = "steps t"
LOG_NORM = r"$\log\,\|\partial s_t / \partial s_0\|$  (nats)"
THICK, THIN = 2.0, 1.2
GUIDE: dict[str, Any] = {"color": "0.55", "linestyle": ":", "linewidth": THIN}
GUIDE_TEXT = "0.4"
_MARKS = 12  # on one curve
_BAND = (10, 50, 90)  # percentiles
_ENTRIES = 6  # of a legend inside the picture
# What has no place on the axis: a mark, the edge where it stands, and its label.
_NOT_FINITE = (("v", "bottom", r"$-\infty$"), ("^", "top", r"$\infty$"), ("x", "bottom", "NaN"))


class Style(NamedTuple):
    """The looks of a curve, in which it differs from the others."""

    colour: str
    dashes: Any
    marker: str | None = None


class Curve(NamedTuple):
    """Numbers against x; with batch axes, their median and a band."""

    x: Any  # [X]
    values: Any  # [X, *batch]
    style: Style
    label: str | None = None
    width: float = THICK


def styles(count: int) -> list[Style]:
    """Different from each other in dashes or marker, up to 42 of them."""
    looks = [Style(*look, marker) for marker in _MARKERS for look in _LOOKS.items()]
    return [looks[i % len(looks)] for i in range(count)]


def style_table(rows: int, columns: int) -> list[list[Style]]:
    """Of a table of curves: a row has one colour, a column one marker, where that suffices."""
    if rows <= len(_LOOKS) and columns <= len(_MARKERS) and rows > 1:
        return [[style._replace(marker=m) for m in _MARKERS[:columns]] for style in styles(rows)]
    flat = styles(rows * columns)
    return [flat[row * columns : (row + 1) * columns] for row in range(rows)]


def batch_band(values: Any) -> np.ndarray:
    """The 10th, 50th, 90th percentile over the batch of `[X, *batch]`, NaN aside, as `[3, X]`."""
    rows = np.asarray(values, np.float64)
    rows = rows.reshape(rows.shape[0], -1)
    # Percentiles interpolate, and -inf less -inf is NaN: so the nearest order statistics.
    band: np.ndarray = np.percentile(rows, _BAND, axis=1, method="nearest")
    gaps = np.isnan(rows)
    for i in np.flatnonzero(gaps.any(1) & ~gaps.all(1)):
        band[:, i] = np.percentile(rows[i, ~gaps[i]], _BAND, method="nearest")
    return band


def batch_size(values: Any) -> int:
    return int(np.prod(np.shape(values)[1:]))


def label_of(name: str, values: Any) -> str | None:
    """A curve's name in the legend, or the size of its batch for one without a name."""
    several = batch_size(values)
    return name or (f"{several} examples" if several > 1 else None)


def over_time(values: Any, style: Style, label: str | None, width: float = THICK) -> Curve:
    """The curve of `[T, *batch]` at t = 1 ... T."""
    return Curve(np.arange(1, len(values) + 1), values, style, label, width)


def each_over_time(logs: Mapping[str, Any]) -> list[Curve]:
    """One curve for each `[T, *batch]` by name, at t = 1 ... T."""
    return [
        over_time(values, style, label_of(name, values))
        for (name, values), style in zip(logs.items(), styles(len(logs)), strict=True)
    ]


def draw(ax: Axes, curves: Sequence[Curve]) -> None:
    """Draw the curves and their bands; what is infinite of a band reaches beyond all that is not.

    Where the median is infinite, or an example is NaN, a mark stands at the edge of the picture.
    """
    bands = [batch_band(curve.values) for curve in curves]
    finite = np.concatenate([band[np.isfinite(band)] for band in bands])
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    margin = 0.05 * (high - low) or 1.0
    rows = {"bottom": 0, "top": 0}  # of marks, one above the other
    for curve, band in zip(curves, bands, strict=True):
        x, colour = np.asarray(curve.x), curve.style.colour
        if batch_size(curve.values) > 1:
            edges = np.clip(band, low - margin, high + margin)
            ax.fill_between(x, edges[0], edges[2], color=colour, alpha=0.18, linewidth=0)
        _draw_line(ax, curve, band[1])
        examples = np.asarray(curve.values, np.float64).reshape(len(x), -1)
        which = [np.isneginf(band[1]), np.isposinf(band[1]), np.isnan(examples).any(1)]
        for (marker, edge, label), found in zip(_NOT_FINITE, which, strict=True):
            if not found.any():
                continue
            # In a row at the bottom or the top, whatever the limits of the axis will be.
            inside = 0.02 + 0.035 * (rows[edge] % 6)
            rows[edge] += 1
            look: dict[str, Any] = {"color": colour, "linestyle": "none", "marker": marker}
            look |= {"markersize": 6, "markevery": max(1, int(found.sum()) // _MARKS)}
            height = np.full(int(found.sum()), inside if edge == "bottom" else 1 - inside)
            ax.plot(x[found], height, transform=ax.get_xaxis_transform(), label=label, **look)


def _draw_line(ax: Axes, curve: Curve, median: np.ndarray) -> None:
    finite = np.isfinite(median)
    # A point between two gaps has no line to either side: it is marked to be seen.
    beside = np.concatenate([[False], finite, [False]])
    marked = finite & ~beside[:-2] & ~beside[2:]
    if curve.style.marker:
        marked[:: max(1, len(median) // _MARKS)] = True
    ax.plot(
        np.asarray(curve.x),
        np.where(finite, median, np.nan),
        color=curve.style.colour,
        linestyle=curve.style.dashes,
        linewidth=curve.width,
        marker=(curve.style.marker or "o") if marked.any() else None,
        markevery=np.flatnonzero(marked).tolist(),
        markersize=4,
        label=legend_label(curve.label),
    )


def draw_faint(ax: Axes, height: float = 0) -> None:
    """A faint line across: at zero there is neither growth nor decay."""
    ax.axhline(height, color="0.8", linewidth=0.8, zorder=0)


def draw_level(ax: Axes, height: float, label: str, **look: Any) -> None:
    """A line across, dotted and grey unless its look is given."""
    ax.axhline(height, zorder=1, label=legend_label(label), **(GUIDE | look))


def draw_levels(ax: Axes, levels: Mapping[str, float], dashes: Sequence[Any]) -> None:
    """Dark grey lines across by their labels, each with dashes of its own."""
    for (label, height), dash in zip(levels.items(), itertools.cycle(dashes), strict=False):
        draw_level(ax, height, label, color="0.35", linestyle=dash)


def finish(ax: Axes, x: str, y: str, curves: Sequence[Curve] = (), *, below: bool = False) -> None:
    """Name both axes, and draw the legend; it says what a band is where a curve has one."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    draw_legend(ax, batched=any(batch_size(curve.values) > 1 for curve in curves), below=below)


def draw_legend(ax: Axes, *, batched: bool, below: bool = False) -> None:
    """Each label once, and what the bands are; nothing if there is no label.

    It stands in the picture, or below it where asked for, or where it would hide too much.
    """
    handles, labels = ax.get_legend_handles_labels()
    entries = dict(zip(reversed(labels), reversed(handles), strict=True))
    last = [label for _, _, label in _NOT_FINITE]
    order = sorted(dict.fromkeys(labels), key=lambda label: label in last)
    if not order:
        return
    where: dict[str, Any] = {"loc": "best"}
    if below or len(order) > _ENTRIES:
        figure = ax.get_figure(root=True)
        width = (figure.get_figwidth() if figure is not None else 7.0) * ax.get_position().width
        # The pad, in letters, is what the ticks and the label of the axis take.
        where = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4}
        where["ncols"] = _columns(order, 18 * width)
    look: dict[str, Any] = {"fontsize": 9, "title_fontsize": 9, "handlelength": 3}
    look |= {"alignment": "left", "edgecolor": "none", "framealpha": 0.8}
    title = "median; band: middle 80 % of the batch" if batched else None
    legend = ax.legend([entries[label] for label in order], order, title=title, **look, **where)
    for text in legend.get_texts():
        if is_literal(text.get_text()):
            text.set_parse_math(False)
            text.set_text(plain(text.get_text()))


def _columns(labels: list[str], letters: float) -> int:
    """As many as fit into the width; each takes its longest label, its line and the gap beside."""
    for count in range(len(labels), 1, -1):
        columns = np.array_split(np.array([len(label) + 11 for label in labels]), count)
        if sum(column.max() for column in columns) <= letters:
            return count
    return 1
