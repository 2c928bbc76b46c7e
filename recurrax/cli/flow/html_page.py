"""One HTML file with everything in it: tables, sentences, and the pictures as data."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from recurrax.cli.console import picture_failures
from recurrax.cli.flow.measurement import COLUMNS
from recurrax.literal import literal, visible
from recurrax.plot.axes import as_png, blank_axes
from recurrax.plot.decay import decay
from recurrax.version import __version__
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.axes import Axes

    from recurrax.cli.data.read import Sequences
    from recurrax.cli.flow.measurement import Difference, Measurement
    from recurrax.cli.flow.questions import Answer

EXAMPLES = 4  # sequences about which more is asked than the table says, the first ones
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.6rem } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem }
h3 { font-size: 1.05rem; margin-bottom: .3rem }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0 }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #e4e4e4; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.questions { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem 2rem }
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


class Results(NamedTuple):
    """All that the picture, or the page, shows."""

    title: str
    sequences: Sequences
    cells: list[Measurement]
    answers: list[list[Answer]]  # to all questions about each cell
    change: Difference | None = None

    def draw(self) -> Axes:
        """Draw the decay of all cells."""
        axes = decay({cell.name: cell.decay for cell in self.cells}, blank_axes())
        axes.set_title(literal(self.title))
        return axes


def page_of(results: Results, closing: str = "") -> tuple[str, list[str]]:
    """Return the whole page, and a sentence for each picture that could not be drawn."""
    title, sequences, cells, answers, change = results
    failed: list[str] = []
    length, batch, features = sequences.xs.shape
    few = (
        "The first picture and the table are of all of them, what follows of the first "
        f"{EXAMPLES}. "
        if batch > EXAMPLES
        else ""
    )
    heads = [*(heading.replace("\n", " ") for heading in COLUMNS), "state size N"]
    parts = [
        f"<h1>{_text(title)}</h1>",
        "" if change is None else f"<p><strong>{_sentence(change.words)}</strong></p>",
        _table(heads, [(*cell.row(), cell.state_size) for cell in cells]),
        f"<p>{_text(sequences.name)}: T = {steps_of(length)}, B = {batch}, I = {features}. "
        f"{few}Logs are natural; a nat is a factor of e.</p>",
        *(f"<p>{_text(note)}.</p>" for note in sequences.notes),
        _picture(results.draw, title, failed),
    ]
    for cell, answered in zip(cells, answers, strict=True):
        parts += [f"<h2>{_text(cell.name)}</h2>\n<p>{_text(cell.story(length))}</p>"]
        parts += ['<div class="questions">']
        parts += [_figure(cell.name, answer, failed) for answer in answered]
        parts += ["</div>"]
    parts += [
        f"<p>{closing}</p>",
        f"<footer>recurrax {__version__}, jax {jax.__version__}</footer>",
    ]
    return _PAGE.format(title=_text(title), style=_STYLE, body="\n".join(parts)), failed


def _figure(cell: str, answer: Answer, failed: list[str]) -> str:
    """Return what is said of one question, with its picture and the rows that a report has."""
    title, words = _text(answer.question.title), _text(answer.words)
    if answer.result is None:
        return f"<section><h3>{title}</h3><p>Not answered. {words}</p></section>"
    picture = _picture(answer.draw, f"{cell}: {answer.question.title}", failed)
    wide, table = "", ""
    if hasattr(answer.result, "rows"):
        heads = ("question", "claimed", "measured", "agrees", "reason")
        agrees = {True: "yes", False: "no", None: ""}
        rows = answer.result.rows
        lines = [(r.name, r.value, r.measured, agrees[r.agrees], r.reason) for r in rows]
        wide, table = ' class="wide"', _table(heads, lines)
    return f"<section{wide}><h3>{title}</h3><p>{words}</p>{picture}{table}</section>"


def _picture(draw: Callable[[], Axes], words: str, failed: list[str]) -> str:
    """Return a figure as a PNG inside the page, or a sentence on why there is none."""
    drawn: list[bytes] = []
    why = picture_failures(repr(words), lambda: drawn.append(as_png(draw(), dpi=110)))
    if why:
        failed += why
        return f"<p>{_sentence(why[0])}.</p>"
    data = base64.b64encode(drawn[0]).decode("ascii")
    return f'<img alt="{_text(words)}" src="data:image/png;base64,{data}">'


def _table(heads: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    """Return a table; numbers end right."""
    rows = ["".join(f"<th>{_text(head)}</th>" for head in heads)]
    for line in lines:
        cells = []
        for value in line:
            number = ' class="number"' if isinstance(value, (int, float)) else ""
            shown = f"{value:.4g}" if isinstance(value, float) else "-" if value is None else value
            cells.append(f"<td{number}>{_text(shown)}</td>")
        rows.append("".join(cells))
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table>\n{body}\n</table>"


def _sentence(words: str) -> str:
    return _text(words[:1].upper() + words[1:])


def _text(value: Any) -> str:
    return html.escape(visible(str(value)))
