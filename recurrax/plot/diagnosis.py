"""The picture of a diagnosis: how the gradient travels, where gates stand, what a loss feels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax import checks
from recurrax.literal import literal
from recurrax.plot import curves
from recurrax.plot.axes import axes_or_new, blank_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from recurrax.diagnosis.records import Diagnosis, LayerDiagnosis

_FIELDS = ("decay", "gates", "loss")
_LOSS = r"$\log\,\|\partial\,\Sigma y_T / \partial s_t\|$  (nats)"
# The two ends of a gate, in colours that differ on a grey printer, and what lies between.
_ENDS = (
    ("#0072B2", "closed: below 0.1 (tanh: -0.9; relu: at 0)"),
    ("0.88", "between"),
    ("#F0B030", "open: above 0.9 (relu: above 0)"),
)
_ROW = 0.21  # inches


def diagnosis(result: Diagnosis, ax: Axes | None = None, *, field: str = "decay") -> Axes:
    """Draw one side of a diagnosis, each layer and direction by its name.

    Args:
      result: what `rx.diagnose` returns.
      ax: matplotlib axes to draw on; None makes new ones.
      field: `"decay"`, `log ||d s_t / d s_0||` against t, the median over the examples in a band of
        its middle 80 %. `"gates"`, one bar a gate: the shares of its values that are closed, in
        between, and open, and their median beside it; a layer that does not tell its gates has no
        bar. `"loss"`, `log ||d sum(y_T) / d s_t||`, what a loss that looks at the last output
        alone feels of the state at t, in the order in which the direction reads.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if the result is no diagnosis.
      ValueError: if there is no such field.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.cells.lstm(2, 4)
      >>> found = rx.diagnose(cell, cell.init(jax.random.key(0)), length=8)
      >>> ax = rx.plot.diagnosis(found, rx.plot.blank_axes(), field="gates")
      >>> [label.get_text().split()[-1] for label in ax.get_yticklabels()]
      ['i', 'f', 'g', 'o']
    """
    if not hasattr(result, "layers"):
        raise TypeError(f"result must be what rx.diagnose returns, got {type(result).__name__}")
    checks.check_choice("field", field, _FIELDS)
    ax = axes_or_new(ax)
    if field == "gates":
        _draw_gates(ax, result.layers)
        return ax
    logs = {
        layer.name: layer.decay.log_norm if field == "decay" else layer.loss_gradients
        for layer in result.layers
    }
    lines = curves.each_over_time(logs)
    curves.draw(ax, lines)
    curves.draw_faint(ax)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, -1.0), max(high, 1.0))  # so that rounding does not look like growth
    curves.finish(ax, curves.STEPS, curves.LOG_NORM if field == "decay" else _LOSS, lines)
    return ax


def panels(result: Diagnosis) -> Axes:
    """All three fields side by side on one figure; returns the first axes."""
    bars = sum(len(layer.gates) for layer in result.layers)
    figure: Any = blank_axes(15.0, max(5.0, 1.6 + _ROW * bars)).figure
    figure.clear()
    axes = figure.subplots(1, 3, width_ratios=(1.1, 1, 1.1))
    titles = ("how the gradient travels", "where the gates stand", "what the last output feels")
    for ax, field, title in zip(axes, _FIELDS, titles, strict=True):
        diagnosis(result, ax, field=field)
        ax.set_title(title)
    first_words, last_words = (
        {text.get_text() for text in ax.get_legend().get_texts()} for ax in axes[::2]
    )
    if last_words <= first_words:
        axes[2].get_legend().remove()
    first: Axes = axes[0]
    return first


def _draw_gates(ax: Axes, layers: tuple[LayerDiagnosis, ...]) -> None:
    """One bar a gate from top to bottom, a gap between layers."""
    shares, names, heights = [], [], []
    height = 0.0
    for layer in layers:
        for i, gate in enumerate(layer.gates):
            shares.append((gate.closed, 1 - gate.closed - gate.open, gate.open))
            names.append(literal(f"{layer.name}  {gate.name}" if i == 0 else gate.name))
            heights.append(height)
            ax.text(1.02, height, f"{gate.median:.2g}", va="center", fontsize=8)
            height += 1
        height += 0.6 * bool(layer.gates)
    left = np.zeros(len(shares))
    for (colour, label), share in zip(_ENDS, np.reshape(shares, (-1, 3)).T, strict=True):
        ax.barh(heights, share, left=left, height=0.8, color=colour, label=label)
        left += share
    ax.set_yticks(heights, names, fontsize=9)
    ax.set_ylim(height, -1.2)
    ax.set_xlim(0, 1)
    if shares:
        ax.text(1.02, -0.9, "median", va="center", fontsize=8)
    else:
        ax.text(0.5, -0.1, "no layer tells its gates", ha="center", color=curves.GUIDE_TEXT)
    curves.finish(ax, "share of units, steps and examples (no unit)", "")
    curves.draw_legend(ax, batched=False, below=True)
