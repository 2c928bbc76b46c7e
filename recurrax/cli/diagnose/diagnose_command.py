"""`recurrax diagnose`: any library's weights, any batch, and what is wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from recurrax.cli import console
from recurrax.cli.data.data_options import DataOptions
from recurrax.cli.diagnose.findings import numbers_of, page_of, print_diagnosis
from recurrax.cli.options import arg, check_folder, flag_of, integer, number
from recurrax.diagnosis import diagnose
from recurrax.literal import literal, visible
from recurrax.plot.axes import save
from recurrax.plot.diagnosis import panels

if TYPE_CHECKING:
    from recurrax.cli.data.read import Sequences
    from recurrax.diagnosis import Diagnosis

_NOISE_STEPS = 100
_ENDINGS = ".pt, .pth, .safetensors, .npz, .keras, .h5 or .onnx"
_OF_THE_MODEL = ("activation", "forget_bias")  # what a file may leave open


@dataclasses.dataclass(frozen=True)
class DiagnoseOptions(DataOptions):
    """Say what is wrong with the recurrent layers of a model, why, and what to do.

    Prints one table a layer and sentences below it, each cure tried and measured on a copy of the
    layer, and writes diagnosis.html, diagnosis.png and diagnosis.json into --out.
    """

    model: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(
            metavar="MODEL",
            help=f"Weights of torch, Keras, Flax, Haiku, Equinox or ONNX: {_ENDINGS}.",
            help_behavior_hint="(one file)",
        ),
    ] = ()
    data: Annotated[str | None, arg("DATA", "unit normal noise")] = None
    """What the model reads: digits (scikit-learn's), or a path to a table, one time step a row (.csv, .tsv, .xlsx, .parquet), to an array [T, I] or [T, B, I] (.npy, .npz; beside it in the .npz mask, bool [T, B], or lengths, ints [B]), to sound (.wav), or to any text file (read as bytes, one-hot); each may be a .gz."""  # noqa: E501
    length: Annotated[
        int | None,
        arg("INT", f"all, of a file at most 256; of noise {_NOISE_STEPS}"),
        integer("--length"),
    ] = None
    """Time steps T to feed."""
    prefix: Annotated[str | None, arg("NAME", "all of them")] = None
    """Which of several recurrent layers: the beginning of the names of its arrays."""
    activation: Annotated[str | None, arg("NAME", "what the file says")] = None
    """tanh or relu of a vanilla network of torch, whose file does not say it."""
    forget_bias: Annotated[
        float | None, arg("FLOAT", "what the library adds"), number("--forget-bias")
    ] = None
    """What is added to the LSTM's forget gate when the model runs, and is not in the file."""
    out: Annotated[Path, arg("DIR", "this folder")] = Path()
    """Folder for the page, the picture and the numbers; made if it is not there."""
    json: bool = False
    """Print the numbers as JSON and nothing else; what is not finite is the string "inf", "-inf" or "nan"."""  # noqa: E501

    @staticmethod
    def arranged(words: list[str]) -> list[str]:
        """Return the words with MODEL first, which a number's option would take after its value."""
        first: list[str] = []
        rest: list[str] = []
        option, before = "", ""
        for word in words:
            # A value stands after its option, or in one word with it.
            alone = option.startswith("--") and "=" not in option and not before.startswith("-")
            joined = before.startswith("--") and "=" in before
            (first if not word.startswith("-") and (alone or joined) else rest).append(word)
            option, before = before, word
        return first + rest

    def run(self) -> int:
        """Run the command; return the exit code."""
        model = self._model()
        check_folder(self.out)
        sequences = self._sequences()
        for note in () if sequences is None else sequences.notes:
            console.say(note)
        with console.progress("diagnosing", 1):
            found = self._diagnosed(model, sequences)
        name = visible(Path(model).name)
        text = self._numbers(found, sequences)
        written, failed = self._write(found, f"Diagnosis of {name}", sequences, text)
        if self.json:
            print(text)
        else:
            screen = console.terminal()
            screen.print(f"{name}, fed {found.data}", soft_wrap=True)
            print_diagnosis(found)
            console.print_written(written)
        for words in failed:
            console.say(words)
        return console.NO_PICTURE if failed else 0

    def _model(self) -> str:
        """Return the one path that was given."""
        if len(self.model) == 1:
            if Path(self.model[0]).is_dir():
                raise console.Mistake(
                    f"{self.model[0]} is a folder; name the file of weights in it"
                )
            return self.model[0]
        came = f"{len(self.model)}: {', '.join(self.model)}" if self.model else "none"
        raise console.Mistake(
            f"diagnose needs one MODEL, a file that ends in {_ENDINGS}; got {came}"
        )

    def _sequences(self) -> Sequences | None:
        """Return the data, or None for noise; refuse options that are about data then."""
        if self.data is not None:
            return self.sequences()
        self.refuse_without_data()
        if self.length is not None and self.length < 1:
            raise console.Mistake(f"--length must be at least 1, got {self.length}")
        return None

    def _diagnosed(self, model: str, sequences: Sequences | None) -> Diagnosis:
        options = {name: getattr(self, name) for name in _OF_THE_MODEL}
        options = {name: value for name, value in options.items() if value is not None}
        given: dict[str, Any] = {"length": _NOISE_STEPS if self.length is None else self.length}
        xs = None
        if sequences is not None:
            xs, given = sequences.xs, {"mask": sequences.mask}
        try:
            found = diagnose(model, None, xs, prefix=self.prefix, **given, **options)
        except (ValueError, TypeError, OSError, ImportError) as error:
            words = str(error)
            if sequences is not None and words.startswith("xs "):
                raise console.Mistake(f"--data {sequences.name}: {words}") from None
            flags = [flag_of(n) for n in ("prefix", *_OF_THE_MODEL) if f"{n}=" in words]
            also = f" (on the command line {', '.join(flags)})" if flags else ""
            raise console.Mistake(f"{words}{also}") from None
        if sequences is None:
            return found
        return found._replace(data=found.data.replace("the data given", sequences.name, 1))

    def _numbers(self, found: Diagnosis, sequences: Sequences | None) -> str:
        """Return the JSON: what was asked, the data, each layer by name."""
        data: dict[str, Any] = {"fed": found.data}
        if sequences is not None:
            sizes = dict(zip("TBI", sequences.xs.shape, strict=True))
            data |= {"name": sequences.name, **sizes, **sequences.done, "notes": sequences.notes}
        return console.document(
            dataclasses.asdict(self),
            data=data,
            seconds=found.seconds,
            healthy=found.healthy,
            layers={layer.name: numbers_of(layer) for layer in found.layers},
        )

    def _write(
        self, found: Diagnosis, title: str, sequences: Sequences | None, text: str
    ) -> tuple[list[Path], list[str]]:
        """Write numbers, picture and page; return the files, and a sentence on what is missing."""
        page, picture, numbers = (
            self.out / f"diagnosis.{kind}" for kind in ("html", "png", "json")
        )

        def draw() -> None:
            axes = panels(found)
            axes.figure.suptitle(literal(title))
            save(axes, picture)

        try:
            numbers.write_text(text + "\n", encoding="utf-8")
            whole, failed = page_of(found, title, () if sequences is None else sequences.notes)
            page.write_text(whole, encoding="utf-8")
        except OSError as error:
            raise console.Mistake(
                f"--out: {error.filename} cannot be written ({error.strerror}); name another folder"
            ) from None
        missing = console.picture_failures(picture, draw)
        return [page, numbers] if missing else [page, picture, numbers], failed + missing
