"""`recurrax flow`: real data through the chosen cells, and where the gradient goes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from recurrax.cells import CELLS
from recurrax.cli import console
from recurrax.cli.data.data_options import DataOptions
from recurrax.cli.flow.cells_to_measure import DEFAULT, EXACT_UP_TO, PROBES, choose, measure
from recurrax.cli.flow.html_page import EXAMPLES, Results, page_of
from recurrax.cli.flow.measurement import COLUMNS, WORDS, difference
from recurrax.cli.flow.questions import ANSWERED, LEFT_TO_CODE, QUESTIONS, answer
from recurrax.cli.options import arg, check_folder, integer, number, two_files
from recurrax.plot.axes import save

if TYPE_CHECKING:
    from recurrax.cli.flow.measurement import Measurement
    from recurrax.cli.flow.questions import Answer

_LONGEST_NAME = 40  # letters of a file's name in a title


@dataclasses.dataclass(frozen=True)
class FlowOptions(DataOptions):
    """Measure how the gradient of h_t by h_0 vanishes or explodes, on real data.

    Prints a table, and writes gradient_flow.png and gradient_flow.json into --out; with --report
    gradient_report.html, with all pictures inside, and gradient_report.json.
    """

    cells: Annotated[
        str | None, arg("NAMES", DEFAULT, f"Which to measure, comma-separated: {', '.join(CELLS)}.")
    ] = None
    hidden: Annotated[int | None, arg("INT", "64"), integer("--hidden")] = None
    """Hidden units H."""
    recurrent_scale: Annotated[float, number("--recurrent-scale")] = 1.0
    """Multiplies the recurrent weights: the vanilla network's gradient vanishes at .5, explodes at 2."""  # noqa: E501
    forget_bias: Annotated[float | None, arg("FLOAT", "1"), number("--forget-bias")] = None
    """Added to the bias of the LSTM's forget gate."""
    seed: Annotated[int, integer("--seed")] = 0
    """Of the initial weights."""
    params: Annotated[Path | None, arg("FILE", "fresh weights")] = None
    """Weights to measure, a file that rx.interop.save wrote."""
    compare: Annotated[
        tuple[Path, Path] | None, arg("BEFORE AFTER", "none"), two_files("--compare")
    ] = None
    """Two files of weights that rx.interop.save wrote, such as before and after training, side by side."""  # noqa: E501
    report: Annotated[
        bool,
        tyro.conf.arg(
            help=f"Answer the questions of rx.flow in one HTML file: {ANSWERED} ({LEFT_TO_CODE} "
            "are for code); takes a minute or so a cell."
        ),
    ] = False
    out: Annotated[Path, arg("DIR", "this folder")] = Path()
    """Folder for the picture and the numbers; made if it is not there."""
    json: bool = False
    """Print the numbers as JSON and nothing else; what is not finite is the string "inf", "-inf" or "nan"."""  # noqa: E501

    def run(self) -> int:
        """Run the command; return the exit code."""
        check_folder(self.out)
        sequences = self.sequences()
        few = sequences.first(EXAMPLES)
        subjects = choose(self, sequences.xs.shape[-1])
        for note in sequences.notes:
            console.say(note)
        questions = QUESTIONS if self.report else ()
        cells: list[Measurement] = []
        answers: list[list[Answer]] = []
        with console.progress("measuring", len(subjects) * (1 + len(questions))) as update:
            for subject in subjects:
                cells.append(measure(subject, sequences.xs, sequences.mask))
                answers.append([])
                update(advance=1)
                for question in questions:
                    answers[-1].append(answer(question, subject, few.xs, few.mask))
                    update(advance=1)
        change = difference(*cells) if self.compare else None
        length, batch, _ = sequences.xs.shape
        scale, name = self.recurrent_scale, sequences.name
        suffix = "" if scale == 1 else f", recurrent weights times {scale:g}"
        name = name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"
        title = f"Gradient flow on {name} (T = {length}, B = {batch}{suffix})"
        results = Results(title, sequences, cells, answers, change)
        text = _numbers(self, results)
        written, failed = _write(self, results, text)
        if self.json:
            print(text)
        else:
            _print(results)
            console.print_written(written)
        for words in failed:
            console.say(words)
        return console.NO_PICTURE if failed else 0


def _numbers(options: FlowOptions, results: Results) -> str:
    """Return the JSON: what was asked, the data, what two compare to, each cell by name."""
    sequences, change = results.sequences, results.change
    length, batch, features = sequences.xs.shape
    data = {"name": sequences.name, "T": length, "B": batch, "I": features, **sequences.done}
    cells = {cell.name: cell.numbers() for cell in results.cells}
    if options.report:
        for numbers, answered in zip(cells.values(), results.answers, strict=True):
            numbers["questions"] = {a.question.name: a.numbers() for a in answered}
    return console.document(
        dataclasses.asdict(options),
        data=data | ({"notes": sequences.notes} if sequences.notes else {}),
        **({} if change is None else {"comparison": change}),
        cells=cells,
    )


def _write(options: FlowOptions, results: Results, text: str) -> tuple[list[Path], list[str]]:
    """Write the numbers, then the picture or the page; return the files, and what is missing."""
    stem = "gradient_report" if options.report else "gradient_flow"
    numbers = options.out / f"{stem}.json"
    picture = options.out / f"{stem}.{'html' if options.report else 'png'}"
    try:
        numbers.write_text(text + "\n", encoding="utf-8")
        if not options.report:
            failed = console.picture_failures(picture, lambda: save(results.draw(), picture))
            return [numbers] if failed else [picture, numbers], failed
        closing = f"Of rx.flow this page answers {ANSWERED}; {LEFT_TO_CODE} are left to code."
        page, failed = page_of(results, closing)
        picture.write_text(page, encoding="utf-8")
    except OSError as error:
        raise console.Mistake(
            f"--out: {error.filename} cannot be written ({error.strerror}); name another folder"
        ) from None
    return [picture, numbers], failed


def _print(results: Results) -> None:
    """Print the table, and a sentence for each cell and for two that are compared."""
    _, sequences, cells, _, change = results
    length, batch, features = sequences.xs.shape
    screen = console.terminal()
    chosen = "" if sequences.whole == length else f" of {sequences.whole}"
    unit = "step" if sequences.whole == 1 else "steps"
    screen.print(f"{sequences.name}: T = {length}{chosen} {unit}, B = {batch}, I = {features}")
    title = "d s_t / d s_0: where the gradient goes"
    console.print_table(title, COLUMNS, [cell.row() for cell in cells], left=WORDS)
    for cell in cells:
        screen.print(cell.story(length))
    if change is not None:
        screen.print(change.words)
    if any(cell.probes for cell in cells):
        screen.print(
            f"Cells with a state above N = {EXACT_UP_TO} were followed along {PROBES} random "
            "directions: their norm is a close lower bound."
        )
