"""The frame of a page that holds all it shows: tables, sentences, and pictures as data."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any

import jax

from recurrax.cli.console import picture_failures
from recurrax.literal import visible
from recurrax.plot.axes import as_png
from recurrax.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.axes import Axes

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.6rem } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem }
h3 { font-size: 1.05rem; margin-bottom: .3rem }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0 }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #e4e4e4; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.questions { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem 2rem }
pre { overflow-x: auto; background: #f4f4f4; padding: .4rem .8rem; font-size: .85rem }
img { max-width: 100%; height: auto } .wide { grid-column: 1 / -1 } .no { font-weight: bold }
footer { margin-top: 3rem; color: #666; font-size: .85rem }
@media print { .questions { display: block } h2 { break-before: page } }
"""  # noqa: E501
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page of a title and the parts of its body, its last line the versions."""
    footer = f"<footer>recurrax {__version__}, jax {jax.__version__}</footer>"
    body = "\n".join([f"<h1>{text(title)}</h1>", *parts, footer])
    return _PAGE.format(title=text(title), style=_STYLE, body=body)


def picture(draw: Callable[[], Axes], words: str, failed: list[str]) -> str:
    """Return a figure as a PNG inside the page, or a sentence on why there is none."""
    drawn: list[bytes] = []
    why = picture_failures(repr(words), lambda: drawn.append(as_png(draw(), dpi=110)))
    if why:
        failed += why
        return f"<p>{sentence(why[0])}.</p>"
    data = base64.b64encode(drawn[0]).decode("ascii")
    return f'<img alt="{text(words)}" src="data:image/png;base64,{data}">'


def table(heads: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    """Return a table; numbers end right."""
    rows = ["".join(f"<th>{text(head)}</th>" for head in heads)]
    for line in lines:
        cells = []
        for value in line:
            number = ' class="number"' if isinstance(value, (int, float)) else ""
            shown = f"{value:.4g}" if isinstance(value, float) else "-" if value is None else value
            cells.append(f"<td{number}>{text(shown)}</td>")
        rows.append("".join(cells))
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table>\n{body}\n</table>"


def sentence(words: str) -> str:
    return text(words[:1].upper() + words[1:])


def text(value: Any) -> str:
    return html.escape(visible(str(value)))
