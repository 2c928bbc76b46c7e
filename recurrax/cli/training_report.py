"""What a run came to: curves, a table, and the same numbers as JSON."""

from __future__ import annotations

import json
import shlex
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from rich.table import Table

import recurrax
from recurrax import interop, plot
from recurrax.cli.cells_to_measure import Subject
from recurrax.cli.console import (
    COLUMNS,
    Row,
    difference,
    line,
    of_row,
    print_written,
    progress,
)
from recurrax.cli.data import LONGEST, Sequences
from recurrax.cli.flow import measure
from recurrax.cli.mistakes import Mistake
from recurrax.cli.pictures import attempt
from recurrax.cli.run_folder import write_text
from recurrax.cli.terminal import console as terminal
from recurrax.cli.terminal import say
from recurrax.cli.to_json import plain
from recurrax.literal import visible
from recurrax.plot.over_seeds import known
from recurrax.plot.training import lost_rows
from recurrax.plot.words import literal
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recurrax.cli.run_folder import RunFolder
    from recurrax.flow import Decay
    from recurrax.tasks import Task
    from recurrax.train import Fit

_WIDTH, _HEIGHT = 7.0, 2.6  # inches, of one panel


class Flow(NamedTuple):
    """The gradient flow of one set of weights."""

    row: Row
    decay: Decay


class Summary(NamedTuple):
    """All that the report says."""

    asked: Mapping[str, Any]
    task: Task
    fit: Fit
    before: Flow | None  # None: not finite
    after: Flow | None


def measured(folder: RunFolder, sequences: Sequences, bar: bool) -> tuple[Flow | None, Flow | None]:
    """The gradient flow before and after, of the weights as they lie in the folder."""
    found: list[Flow | None] = []
    with progress("measuring", 2) if bar else nullcontext(lambda: None) as advance:
        for path in (folder.before, folder.after):
            cell, params = interop.load(path)
            try:
                found.append(Flow(*measure(Subject(path.stem, cell, params), sequences)))
            except Mistake:  # a network that has diverged has no gradient flow
                found.append(None)
            advance()
    first, last = found
    return first, last


# --- curves ---------------------------------------------------------------------------------------


def draw(folder: RunFolder, asked: Mapping[str, Any], task: Task, fit: Fit) -> bool:
    """Draw the curves of a run; False, and a sentence on standard error, if that fails."""
    failed = attempt(folder.picture, partial(_draw, folder, asked, task, fit))
    if failed is not None:
        say(failed)
    return failed is None


def _draw(folder: RunFolder, asked: Mapping[str, Any], task: Task, fit: Fit) -> None:
    """Loss, metrics, gradient norm and, if it was measured, the horizon, one below the other."""
    history, baseline = fit.history, dict(task.baseline)
    metrics = metrics_of(task, history)
    goal = task.goal[0] if task.goal[0] in metrics else "loss"  # which is the metric then
    fields = ["loss", *metrics, "gradient_norm"]
    fields += ["horizon"] if "flow" in history else []
    first = plot.blank_axes(_WIDTH, _HEIGHT * len(fields))
    figure = first.figure
    first.remove()
    panels = figure.subplots(len(fields), 1, sharex=True)
    for field, ax in zip(fields, panels, strict=True):
        levels = {"baseline": baseline[field]} if field in baseline else {}
        if field == "gradient_norm" and asked["clip"] is not None:
            levels["clip"] = asked["clip"]
        if field == goal and not is_open(task):
            levels["goal"] = task.goal[2]
        plot.training(fit, ax, field=field, levels=levels)
        ax.label_outer()
    if goal == "loss":
        panels[0].set_ylabel(literal(f"loss = {task.goal[0]}"))
    if "flow" in history:
        panels[-1].set_ylabel("horizon  (steps)")  # the whole label is longer than a panel is high
    panels[0].set_title(literal(headline(asked, task)))
    plot.save(panels[0], folder.picture)


def metrics_of(task: Task, history: Mapping[str, Any]) -> list[str]:
    """The metrics that are not the loss under another name."""
    names = [name for name, _ in task.baseline if name != "loss" and name in history]
    return [
        name for name in names if not np.array_equal(history[name], history["loss"], equal_nan=True)
    ]


def is_open(task: Task) -> bool:
    """Whether there is no solution to reach."""
    return task.name == "text"


def headline(asked: Mapping[str, Any], task: Task) -> str:
    """What was trained on what."""
    words = [f"{task.name}, T = {task.length}: {asked['cell']}, H = {asked['hidden']}"]
    if asked["init"] is not None:
        words.append(asked["init"])
    words.append(f"{asked['optimizer']} {asked['rate']:g}")
    words.append("no clipping" if asked["clip"] is None else f"clip {asked['clip']:g}")
    return ", ".join(words)


# --- the table ------------------------------------------------------------------------------------


def print_summary(folder: RunFolder, summary: Summary, drawn: bool = True) -> None:
    """On standard output; whether the picture was drawn decides if it is named."""
    console = terminal()
    console.print(headline(summary.asked, summary.task))
    console.print(_table(summary))
    console.print(story(summary))
    if summary.before is not None and summary.after is not None:
        console.print(difference(summary.before.row, summary.after.row).words)
    else:
        console.print(
            "The weights are not finite, or the states they lead to: training has diverged. A "
            "--clip or a smaller --rate may hold it."
        )
    written = [folder.report, folder.before, folder.after, folder.network]
    written = [folder.picture, *written] if drawn else written
    print_written(console, written)
    again = f"to look closer: {compare_command(folder, summary.task)}"
    console.print(visible(again), soft_wrap=True)


def compare_command(folder: RunFolder, task: Task) -> str:
    """The command that compares the gradient flow before and after along the same sequences."""
    files = ["--compare", str(folder.before), str(folder.after), "--data", str(folder.inputs)]
    longer = ["--length", str(task.length)] if task.length > LONGEST else []
    return shlex.join(["recurrax", "flow", *files, *longer])


def _table(summary: Summary) -> Table:
    table = Table(title="what became of it", title_justify="left")
    table.add_column("")
    for heading in ("start", "end", "baseline"):
        table.add_column(heading, justify="right", overflow="fold")
    for cells in lines(summary):
        table.add_row(*cells)
    return table


def lines(summary: Summary) -> list[tuple[str, str, str, str]]:
    """The rows of the table: what, at the start, at the end, and what a memoryless guess reaches.

    Loss, metrics and the gradient norm at the start are means over the first training steps, at
    the end over the last ones.
    """
    history, baseline = summary.fit.history, dict(summary.task.baseline)
    rows = []
    for name in ("loss", *metrics_of(summary.task, history)):
        guess = f"{baseline[name]:.4g}"
        rows.append((words(name), *_ends(history, name), guess))
        if f"test_{name}" in history:
            end = _cell(history, f"test_{name}", -1, ".4g")
            rows.append((f"{words(name)}, test data", "-", end, guess))
    rows.append(("gradient norm", *_ends(history, "gradient_norm"), ""))
    if "clip_fraction" in history:
        first, last = (_cell(history, "clip_fraction", i, ".0%") for i in (0, -1))
        rows.append(("steps clipped", first, last, ""))
    flows = [_cells(summary.before), _cells(summary.after)]
    for heading, name in (
        ("rate\n/ step", "gradient's rate / step"),
        ("horizon\nsteps", "gradient's horizon, steps"),
        ("verdict", "gradient's verdict"),
    ):
        rows.append((name, flows[0][heading], flows[1][heading], ""))
    return rows


def _ends(history: Mapping[str, Any], name: str) -> tuple[str, str]:
    first, last = (_cell(history, name, i, ".4g") for i in (0, -1))
    return first, last


def _cell(history: Mapping[str, Any], name: str, i: int, form: str) -> str:
    """A number of a report, if it is known."""
    return "lost" if lost_rows(history)[i] else f"{history[name][i]:{form}}"


def _cells(flow: Flow | None) -> dict[str, str]:
    texts = ("not finite",) * len(COLUMNS) if flow is None else line(flow.row)
    return dict(zip(COLUMNS, texts, strict=True))


def words(name: str) -> str:
    return name.replace("_", " ")


def story(summary: Summary) -> str:
    """Whether it is solved, and how fast it went."""
    metric, relation, value = summary.task.goal
    done, fit = steps_of(summary.fit.step), summary.fit
    if fit.solved:
        first = f"solved at step {fit.step}: {words(metric)} {relation} {value:g}."
    elif is_open(summary.task):
        first = f"trained for {done}."
    else:
        first = f"not solved in {done}; the goal is {words(metric)} {relation} {value:g}."
    pace = speed(fit)
    if np.isnan(pace):
        return f"{first} How fast is lost with the history."
    return f"{first} {pace:.{0 if pace >= 100 else 3 if pace < 1 else 1}f} training steps a second."


def speed(fit: Fit) -> float:
    """Training steps a second, the median over the reports, of which the first compiled."""
    return known(fit.history["steps_per_second"])[0]


# --- the numbers ----------------------------------------------------------------------------------


def write(folder: RunFolder, summary: Summary) -> None:
    """`report.json`; what is not finite is the string "inf", "-inf" or "nan"."""
    text = json.dumps(plain(document(summary)), indent=1, allow_nan=False)
    write_text(folder.report, text + "\n")


def document(summary: Summary) -> dict[str, Any]:
    """All numbers by name."""
    task, fit = summary.task, summary.fit
    ends = {
        name: {"start": values[0], "end": values[-1]}
        for name, values in fit.history.items()
        if name not in ("step", "flow", "steps_per_second")
    }
    flows = {
        name: None if flow is None else of_row(*flow)
        for name, flow in (("start", summary.before), ("end", summary.after))
    }
    metric, relation, value = task.goal
    gone = fit.history["step"][lost_rows(fit.history)].tolist()
    return {
        "recurrax": recurrax.__version__,
        "jax": jax.__version__,
        "options": dict(summary.asked),
        "task": {"name": task.name, "T": task.length, "I": task.input_size, "O": task.output_size},
        "goal": None if is_open(task) else {"metric": metric, "is": relation, "value": value},
        "solved": fit.solved,
        "step": fit.step,
        "steps_per_second": speed(fit),
        "baseline": dict(task.baseline),
        "history": ends | ({"lost": gone} if gone else {}),
        "gradient_flow": flows,
    }
