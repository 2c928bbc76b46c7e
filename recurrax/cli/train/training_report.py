"""What a run came to: curves, a table, and the same numbers as JSON."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax.cli import console
from recurrax.cli.data.read import LONGEST
from recurrax.cli.flow.measurement import COLUMNS, difference
from recurrax.literal import literal, visible
from recurrax.plot.axes import blank_axes, save
from recurrax.plot.over_seeds import known
from recurrax.plot.training import lost_rows, training
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recurrax.cli.flow.measurement import Measurement
    from recurrax.cli.train.run_folder import RunFolder
    from recurrax.tasks import Task
    from recurrax.train.fit import Fit

_WIDTH, _HEIGHT = 7.0, 2.6  # inches, of one panel


class Summary(NamedTuple):
    """All that the report says."""

    asked: Mapping[str, Any]
    task: Task
    fit: Fit
    before: Measurement | None  # None: not finite
    after: Measurement | None

    def text(self) -> str:
        """Return all numbers of the report as JSON."""
        task, fit = self.task, self.fit
        ends = {
            name: {"start": values[0], "end": values[-1]}
            for name, values in fit.history.items()
            if name not in ("step", "flow", "steps_per_second")
        }
        lost = fit.history["step"][lost_rows(fit.history)].tolist()
        metric, relation, value = task.goal
        sizes = {"T": task.length, "I": task.input_size, "O": task.output_size}
        flows = {"start": self.before, "end": self.after}
        return console.document(
            self.asked,
            task={"name": task.name, **sizes},
            goal=None if _is_open(task) else {"metric": metric, "is": relation, "value": value},
            solved=fit.solved,
            step=fit.step,
            steps_per_second=_speed(fit),
            baseline=dict(task.baseline),
            history=ends | ({"lost": lost} if lost else {}),
            gradient_flow={name: flow and flow.numbers() for name, flow in flows.items()},
        )

    def show(self, folder: RunFolder) -> bool:
        """Print the table and what was written; draw the curves, and return whether that worked."""
        drawn = draw(folder, self.asked, self.task, self.fit)
        screen = console.terminal()
        screen.print(_headline(self.asked, self.task))
        headings = ("", "start", "end", "baseline")
        console.print_table("what became of it", headings, _rows(self), left=("",))
        screen.print(_story(self))
        if self.before is not None and self.after is not None:
            screen.print(difference(self.before, self.after).words)
        else:
            screen.print(
                "The weights are not finite, or the states they lead to: training has diverged. A "
                "--clip or a smaller --rate may hold it."
            )
        written = [folder.report, folder.before, folder.after, folder.network]
        console.print_written([folder.picture, *written] if drawn else written)
        # The gradient flow before and after along the same sequences.
        files = ["--compare", str(folder.before), str(folder.after), "--data", str(folder.inputs)]
        length = self.task.length
        longer = ["--length", str(length)] if length > LONGEST else []
        command = shlex.join(["recurrax", "flow", *files, *longer])
        screen.print(visible(f"to look closer: {command}"), soft_wrap=True)
        return drawn


def draw(folder: RunFolder, asked: Mapping[str, Any], task: Task, fit: Fit) -> bool:
    """Draw the curves of a run; False, and a sentence on standard error, if that fails."""
    failed = console.picture_failures(folder.picture, lambda: _draw(folder, asked, task, fit))
    for words in failed:
        console.say(words)
    return not failed


def _draw(folder: RunFolder, asked: Mapping[str, Any], task: Task, fit: Fit) -> None:
    """Loss, metrics, gradient norm and, if it was measured, the horizon, one below the other."""
    history, baseline = fit.history, dict(task.baseline)
    metrics = _metrics_of(task, history)
    goal = task.goal[0] if task.goal[0] in metrics else "loss"  # which is the metric then
    fields = ["loss", *metrics, "gradient_norm"]
    fields += ["horizon"] if "flow" in history else []
    first = blank_axes(_WIDTH, _HEIGHT * len(fields))
    figure = first.figure
    first.remove()
    panels = figure.subplots(len(fields), 1, sharex=True)
    for field, ax in zip(fields, panels, strict=True):
        levels = {"baseline": baseline[field]} if field in baseline else {}
        if field == "gradient_norm" and asked["clip"] is not None:
            levels["clip"] = asked["clip"]
        if field == goal and not _is_open(task):
            levels["goal"] = task.goal[2]
        training(fit, ax, field=field, levels=levels)
        ax.label_outer()
    if goal == "loss":
        panels[0].set_ylabel(literal(f"loss = {task.goal[0]}"))
    if "flow" in history:
        panels[-1].set_ylabel("horizon  (steps)")  # the whole label is longer than a panel is high
    panels[0].set_title(literal(_headline(asked, task)))
    save(panels[0], folder.picture)


def _metrics_of(task: Task, history: Mapping[str, Any]) -> list[str]:
    """Return the metrics that are not the loss under another name."""
    loss = history["loss"]
    names = [name for name, _ in task.baseline if name != "loss" and name in history]
    return [name for name in names if not np.array_equal(history[name], loss, equal_nan=True)]


def _is_open(task: Task) -> bool:
    """Return whether there is no solution to reach."""
    return task.name == "text"


def _headline(asked: Mapping[str, Any], task: Task) -> str:
    """Return what was trained on what."""
    words = [f"{task.name}, T = {task.length}: {asked['cell']}, H = {asked['hidden']}"]
    if asked["init"] is not None:
        words.append(asked["init"])
    words.append(f"{asked['optimizer']} {asked['rate']:g}")
    words.append("no clipping" if asked["clip"] is None else f"clip {asked['clip']:g}")
    return ", ".join(words)


def _rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Return the table: what, at the start, at the end, and what a memoryless guess reaches.

    Loss, metrics and the gradient norm at the start are means over the first training steps, at
    the end over the last ones.
    """
    history, baseline = summary.fit.history, dict(summary.task.baseline)

    def at(i: int, name: str, form: str = ".4g") -> str:
        return "lost" if lost_rows(history)[i] else f"{history[name][i]:{form}}"

    rows = []
    for name in ("loss", *_metrics_of(summary.task, history)):
        guess = f"{baseline[name]:.4g}"
        rows.append((console.spoken(name), at(0, name), at(-1, name), guess))
        if f"test_{name}" in history:
            rows.append((f"{console.spoken(name)}, test data", "-", at(-1, f"test_{name}"), guess))
    rows.append(("gradient norm", at(0, "gradient_norm"), at(-1, "gradient_norm"), ""))
    if "clip_fraction" in history:
        first, last = (at(i, "clip_fraction", ".0%") for i in (0, -1))
        rows.append(("steps clipped", first, last, ""))
    before, after = (
        ("not finite",) * len(COLUMNS) if cell is None else cell.row()
        for cell in (summary.before, summary.after)
    )
    for heading, name in (
        ("rate\n/ step", "gradient's rate / step"),
        ("horizon\nsteps", "gradient's horizon, steps"),
        ("verdict", "gradient's verdict"),
    ):
        i = COLUMNS.index(heading)
        rows.append((name, before[i], after[i], ""))
    return rows


def _story(summary: Summary) -> str:
    """Return whether it is solved, and how fast it went."""
    metric, relation, value = summary.task.goal
    done, fit = steps_of(summary.fit.step), summary.fit
    goal = f"{console.spoken(metric)} {relation} {value:g}."
    if fit.solved:
        first = f"solved at step {fit.step}: {goal}"
    elif _is_open(summary.task):
        first = f"trained for {done}."
    else:
        first = f"not solved in {done}; the goal is {goal}"
    pace = _speed(fit)
    if np.isnan(pace):
        return f"{first} How fast is lost with the history."
    return f"{first} {pace:.{0 if pace >= 100 else 3 if pace < 1 else 1}f} training steps a second."


def _speed(fit: Fit) -> float:
    """Training steps a second, the median over the reports, of which the first compiled."""
    return known(fit.history["steps_per_second"])[0]
