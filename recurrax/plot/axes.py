"""Where a picture is drawn."""

from __future__ import annotations

import importlib
import io
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes


def blank_axes(width: float = 7.0, height: float = 4.5) -> Axes:
    """Axes on a figure of their own that no window system knows, to be saved to a file.

    Args:
      width: in inches.
      height: in inches.

    Raises:
      ImportError: if matplotlib is not installed.

    Example:
      >>> import recurrax as rx
      >>> rx.plot.blank_axes(4, 3).figure.get_size_inches().tolist()
      [4.0, 3.0]
    """
    figure = _matplotlib("figure").Figure(figsize=(width, height), layout="constrained")
    axes: Axes = figure.add_subplot()
    return axes


def save(ax: Axes, path: str | os.PathLike[str], *, dpi: int = 150) -> None:
    """Write the figure that axes belong to.

    Args:
      ax: the axes.
      path: its ending says the format: `.png`, `.pdf`, `.svg`.
      dpi: dots an inch.

    Raises:
      ValueError: if matplotlib does not know the format.
      OSError: if the file cannot be written.

    Example:
      >>> import pathlib, tempfile, recurrax as rx
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "empty.png"
      >>> rx.plot.save(rx.plot.blank_axes(), path)
      >>> path.exists()
      True
    """
    _write(ax, path, dpi=dpi)


def as_png(ax: Axes, *, dpi: int = 150) -> bytes:
    """The same as the bytes of a PNG."""
    buffer = io.BytesIO()
    _write(ax, buffer, dpi=dpi, format="png")
    return buffer.getvalue()


def _write(ax: Axes, target: Any, **how: Any) -> None:
    # Without a warning for each letter that the font lacks; a box stands in its place.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        ax.get_figure(root=True).savefig(target, **how)  # type: ignore[union-attr]


def axes_or_new(ax: Axes | None) -> Axes:
    """Return the axes, or for None new ones of pyplot's, which a notebook shows."""
    if ax is not None:
        return ax
    axes: Axes = _matplotlib("pyplot").subplots(figsize=(7.0, 4.5), layout="constrained")[1]
    return axes


def _matplotlib(module: str) -> Any:
    try:
        return importlib.import_module(f"matplotlib.{module}")
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'recurrax[plot]'") from None
