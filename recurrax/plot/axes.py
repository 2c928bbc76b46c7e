"""Where a picture is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def blank_axes(width: float = 7.0, height: float = 4.5) -> Axes:
    """Axes on a figure of their own that no window system knows, to be saved to a file.

    Args:
      width: in inches.
      height: in inches.

    Returns:
      A `matplotlib.axes.Axes`; save it with `ax.figure.savefig(path)`.

    Raises:
      ImportError: if matplotlib is not installed.

    Example:
      >>> import recurrax as rx
      >>> rx.plot.blank_axes(4, 3).figure.get_size_inches().tolist()
      [4.0, 3.0]
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'recurrax[plot]'") from None
    axes: Axes = Figure(figsize=(width, height), layout="constrained").add_subplot()
    return axes


def given_or_new(ax: Axes | None) -> Axes:
    """The axes given, or new ones of pyplot's, which a notebook shows."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'recurrax[plot]'") from None
    axes: Axes = plt.subplots(figsize=(7.0, 4.5), layout="constrained")[1]
    return axes
