"""`recurrax flow`: real data through the chosen cells, and where the gradient goes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from recurrax.cli.console import (
    NO_PICTURE,
    Mistake,
    picture_failures,
    print_table,
    print_written,
    progress,
    say,
    terminal,
)
from recurrax.cli.data.read import Reading, read
from recurrax.cli.flow.cells_to_measure import EXACT_UP_TO, PROBES, choose, measure
from recurrax.cli.flow.html_page import Results, page_of
from recurrax.cli.flow.measurement import COLUMNS, WORDS, difference, story
from recurrax.cli.flow.questions import QUESTIONS, answers_of, without_vectors
from recurrax.cli.options import check_folder
from recurrax.cli.to_json import document
from recurrax.plot.axes import save

if TYPE_CHECKING:
    from pathlib import Path

    from recurrax.cli.data.contents import Sequences
    from recurrax.cli.flow.flow_options import FlowOptions
    from recurrax.cli.flow.measurement import Measurement
    from recurrax.cli.flow.questions import Answer

_LONGEST_NAME = 40  # letters of a file's name in a title


def flow(options: FlowOptions) -> int:
    """Run the command; return the exit code."""
    check_folder(options.out)
    reading = Reading(options.columns, options.array, options.fill, options.standardise)
    sequences = read(options.data, options.length, options.batch, reading)
    subjects = choose(options, sequences.xs.shape[-1])
    for note in sequences.notes:
        say(note)
    cells: list[Measurement] = []
    answers: dict[str, list[Answer]] = {}
    with progress("measuring", len(subjects) * (1 + options.report * len(QUESTIONS))) as update:
        for subject in subjects:
            cells.append(measure(subject, sequences.xs))
            update(advance=1)
            if options.report:
                answers[subject.name] = []
                for answer in answers_of(subject, sequences.xs):
                    answers[subject.name].append(answer)
                    update(advance=1)
    change = difference(*cells) if options.compare else None
    results = Results(_title(options, sequences), sequences, cells, answers, change)
    text = _numbers(options, results)
    written, failed = _write(options, results, text)
    if options.json:
        print(text)
    else:
        _print(results)
        print_written(written)
    for words in failed:
        say(words)
    return NO_PICTURE if failed else 0


def _numbers(options: FlowOptions, results: Results) -> str:
    """Return the JSON: what was asked, the data, what two compare to, each cell by name."""
    sequences, change = results.sequences, results.change
    length, batch, features = sequences.xs.shape
    data = {"name": sequences.name, "T": length, "B": batch, "I": features, **sequences.done}
    numbers = {cell.name: cell.numbers() for cell in results.cells}
    for name, found in results.answers.items():
        numbers[name]["questions"] = {
            a.name: {"left_out": a.words} if a.result is None else without_vectors(a.result)
            for a in found
        }
    return document(
        dataclasses.asdict(options),
        data=data | ({"notes": sequences.notes} if sequences.notes else {}),
        **({} if change is None else {"comparison": change}),
        cells=numbers,
    )


def _write(options: FlowOptions, results: Results, text: str) -> tuple[list[Path], list[str]]:
    """Write the numbers, then the picture or the page.

    Returns:
      What was written, and a sentence for each picture that is missing.
    """
    stem = "gradient_report" if options.report else "gradient_flow"
    numbers = options.out / f"{stem}.json"
    picture = options.out / f"{stem}.{'html' if options.report else 'png'}"
    try:
        numbers.write_text(text + "\n", encoding="utf-8")
        if not options.report:
            failed = picture_failures(picture, lambda: save(results.draw(), picture))
            return [numbers] if failed else [picture, numbers], failed
        page, failed = page_of(results)
        picture.write_text(page, encoding="utf-8")
    except OSError as error:
        raise Mistake(
            f"--out: {error.filename} cannot be written ({error.strerror}); name another folder"
        ) from None
    return [picture, numbers], failed


def _title(options: FlowOptions, sequences: Sequences) -> str:
    length, batch, _ = sequences.xs.shape
    scale, name = options.recurrent_scale, sequences.name
    suffix = "" if scale == 1 else f", recurrent weights times {scale:g}"
    name = name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"
    return f"Gradient flow on {name} (T = {length}, B = {batch}{suffix})"


def _print(results: Results) -> None:
    """Print the table, and a sentence for each cell and for two that are compared."""
    _, sequences, cells, _, change = results
    length, batch, features = sequences.xs.shape
    console = terminal()
    chosen = "" if sequences.whole == length else f" of {sequences.whole}"
    unit = "step" if sequences.whole == 1 else "steps"
    console.print(f"{sequences.name}: T = {length}{chosen} {unit}, B = {batch}, I = {features}")
    title = "d s_t / d s_0: where the gradient goes"
    print_table(title, COLUMNS, [cell.row() for cell in cells], left=WORDS)
    for cell in cells:
        console.print(story(cell, length))
    if change is not None:
        console.print(change.words)
    if any(cell.probes for cell in cells):
        console.print(
            f"Cells with a state above N = {EXACT_UP_TO} were followed along {PROBES} random "
            "directions: their norm is a close lower bound."
        )
