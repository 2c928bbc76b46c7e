"""One HTML file with everything in it: tables, sentences, and the pictures as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from recurrax.cli.flow.measurement import COLUMNS
from recurrax.cli.page import page, picture, sentence, table, text
from recurrax.literal import literal
from recurrax.plot.axes import blank_axes
from recurrax.plot.decay import decay
from recurrax.words import steps_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from recurrax.cli.data.read import Sequences
    from recurrax.cli.flow.measurement import Difference, Measurement
    from recurrax.cli.flow.questions import Answer

EXAMPLES = 4  # sequences about which more is asked than the table says, the first ones


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
        "" if change is None else f"<p><strong>{sentence(change.words)}</strong></p>",
        table(heads, [(*cell.row(), cell.state_size) for cell in cells]),
        f"<p>{text(sequences.name)}: T = {steps_of(length)}, B = {batch}, I = {features}. "
        f"{few}Logs are natural; a nat is a factor of e.</p>",
        *(f"<p>{text(note)}.</p>" for note in sequences.notes),
        picture(results.draw, title, failed),
    ]
    for cell, answered in zip(cells, answers, strict=True):
        parts += [f"<h2>{text(cell.name)}</h2>\n<p>{text(cell.story(length))}</p>"]
        parts += ['<div class="questions">']
        parts += [_figure(cell.name, answer, failed) for answer in answered]
        parts += ["</div>"]
    return page(title, [*parts, f"<p>{closing}</p>"]), failed


def _figure(cell: str, answer: Answer, failed: list[str]) -> str:
    """Return what is said of one question, with its picture and the rows that a report has."""
    title, words = text(answer.question.title), text(answer.words)
    if answer.result is None:
        return f"<section><h3>{title}</h3><p>Not answered. {words}</p></section>"
    drawn = picture(answer.draw, f"{cell}: {answer.question.title}", failed)
    wide, rows_below = "", ""
    if hasattr(answer.result, "rows"):
        heads = ("question", "claimed", "measured", "agrees", "reason")
        agrees = {True: "yes", False: "no", None: ""}
        rows = answer.result.rows
        lines = [(r.name, r.value, r.measured, agrees[r.agrees], r.reason) for r in rows]
        wide, rows_below = ' class="wide"', table(heads, lines)
    return f"<section{wide}><h3>{title}</h3><p>{words}</p>{drawn}{rows_below}</section>"
