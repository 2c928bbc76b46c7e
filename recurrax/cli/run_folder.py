"""The folder of a run: what it was asked for, and what lies in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import recurrax
from recurrax.cli.mistakes import Mistake
from recurrax.cli.terminal import say
from recurrax.interop import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_FORMAT = "recurrax-run-1"
_LONGEST = 1 << 20  # bytes of a record


class RunFolder(NamedTuple):
    """Its files. `history.jsonl` and `checkpoints` are those of `rx.train.fit`."""

    path: Path

    @property
    def record(self) -> Path:
        return self.path / "run.json"

    @property
    def before(self) -> Path:
        return self.path / "before.npz"

    @property
    def after(self) -> Path:
        return self.path / "after.npz"

    @property
    def network(self) -> Path:
        return self.path / "network.npz"

    @property
    def inputs(self) -> Path:
        return self.path / "xs.npy"

    @property
    def picture(self) -> Path:
        return self.path / "training.png"

    @property
    def report(self) -> Path:
        return self.path / "report.json"

    def check_unused(self) -> None:
        """Refuse a folder in which anything would be written over."""
        if disk.there(self.path) and not self.path.is_dir():
            raise Mistake(f"--out {self.path} is a file; name a folder")
        if self.record.exists():
            raise Mistake(
                f"--out {self.path} holds a run already: --resume goes on with it, another folder "
                "begins anew; nothing was written over"
            )
        for path in (*self._own(), self.path / "history.jsonl", self.path / "checkpoints"):
            if disk.there(path):
                raise Mistake(
                    f"--out {self.path} has a {path.name} that is not of a run by this command; "
                    "name another folder; nothing was written over"
                )

    def _own(self) -> list[Path]:
        return [getattr(self, name) for name, it in vars(RunFolder).items() if _is_property(it)]

    def begin(self, asked: Mapping[str, Any]) -> None:
        """Make the folder, and write down what was asked for."""
        self.path.mkdir(parents=True, exist_ok=True)
        document = {"format": _FORMAT, "recurrax": recurrax.__version__, "options": dict(asked)}
        write_text(self.record, json.dumps(document, indent=1) + "\n")

    def asked(self, kinds: Mapping[str, set[type]]) -> dict[str, Any]:
        """What the run was asked for.

        Args:
          kinds: of each option's value.

        Raises:
          Mistake: if there is no run, or its record cannot be read, or is not of these options.
        """
        if not self.record.is_file():
            raise Mistake(
                f"--out {self.path} holds no run to go on with; leave --resume out to begin one"
            )
        try:
            with self.record.open("rb") as file:
                document = json.loads(file.read(_LONGEST).decode())
            options = dict(document["options"])
            if document["format"] != _FORMAT:
                raise ValueError
            for name, kind in kinds.items():
                if type(options[name]) not in kind:
                    raise TypeError
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise Mistake(
                f"{self.record} is damaged, or of another version of recurrax; name another folder "
                "to begin anew; nothing was written over"
            ) from None
        return options

    def clear(self) -> None:
        """Set aside what is no file where one will be written: a folder, a pipe, a broken link."""
        for path in self._own():
            if disk.there(path) and not path.is_file():
                _tell_aside(path, "is no file")

    def keep(self, path: Path, is_right: Callable[[], bool], make: Callable[[], None]) -> None:
        """Make a file that follows from the options, unless it is there and right."""
        if disk.there(path):
            try:
                if is_right():
                    return
            except Exception:  # NumPy has many for a damaged file
                pass
            _tell_aside(path, "is damaged")
        make()


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there."""
    with disk.replaced(path) as part:
        part.write_text(text, encoding="utf-8")


def _tell_aside(path: Path, reason: str) -> None:
    copy = disk.set_aside(path)
    disk.remove(path)
    say(f"{path} {reason}; it is kept as {copy.name}, and made anew")


def merged(
    folder: RunFolder, given: Mapping[str, Any], recorded: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a run that goes on: its own; only of `steps` there may be more.

    Raises:
      Mistake: if one that is given is another than the run's.
    """
    for name, value in given.items():
        if value is not None and name != "steps" and value != recorded[name]:
            was = recorded[name]
            ran = f"--{flag(name)} {was}" if was is not None else f"no --{flag(name)}"
            raise Mistake(
                f"--{flag(name)} {value} contradicts the run in {folder.path}, which has {ran}; "
                "leave it out to go on, or name another folder"
            )
    steps = recorded["steps"] if given["steps"] is None else given["steps"]
    if steps < recorded["steps"]:
        raise Mistake(
            f"--steps {steps} is fewer than the {recorded['steps']} of the run in {folder.path}; "
            "leave it out to go on, or give more to train longer"
        )
    return dict(recorded) | {"steps": steps}


def flag(name: str) -> str:
    return name.replace("_", "-")


def _is_property(it: Any) -> bool:
    return isinstance(it, property)
