"""The folder of a run: what it was asked for, and what lies in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from recurrax.cli.console import Mistake, say
from recurrax.interop import disk
from recurrax.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_FORMAT = "recurrax-run-1"
_LONGEST = 1 << 20  # bytes of a record


class RunFolder:
    """Its files. `history.jsonl` and `checkpoints` are those of `rx.train.fit`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / "run.json"
        self.before = path / "before.npz"
        self.after = path / "after.npz"
        self.network = path / "network.npz"
        self.inputs = path / "xs.npy"
        self.picture = path / "training.png"
        self.report = path / "report.json"
        self._own = [path for name, path in vars(self).items() if name != "path"]

    def check_unused(self) -> None:
        """Refuse a folder in which anything would be written over."""
        if disk.there(self.path) and not self.path.is_dir():
            raise Mistake(f"--out {self.path} is a file; name a folder")
        if self.record.exists():
            raise Mistake(
                f"--out {self.path} holds a run already: --resume goes on with it, another folder "
                "begins anew; nothing was written over"
            )
        for path in (*self._own, self.path / "history.jsonl", self.path / "checkpoints"):
            if disk.there(path):
                raise Mistake(
                    f"--out {self.path} has a {path.name} that is not of a run by this command; "
                    "name another folder; nothing was written over"
                )

    def begin(self, asked: Mapping[str, Any]) -> None:
        """Make the folder, and write down what was asked for."""
        self.path.mkdir(parents=True, exist_ok=True)
        document = {"format": _FORMAT, "recurrax": __version__, "options": dict(asked)}
        write_text(self.record, json.dumps(document, indent=1) + "\n")

    def asked(self, kinds: Mapping[str, set[type]]) -> dict[str, Any]:
        """Return what the run was asked for, if its record holds these options of these types."""
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
        for path in self._own:
            if disk.there(path) and not path.is_file():
                _set_aside(path, "is no file")

    def keep(self, path: Path, is_right: Callable[[], bool], make: Callable[[], None]) -> None:
        """Make a file that follows from the options, unless it is there and right."""
        if disk.there(path):
            try:
                if is_right():
                    return
            except Exception:  # NumPy has many for a damaged file
                pass
            _set_aside(path, "is damaged")
        make()


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there."""
    with disk.replaced(path) as part:
        part.write_text(text, encoding="utf-8")


def _set_aside(path: Path, reason: str) -> None:
    copy = disk.set_aside(path)
    disk.remove(path)
    say(f"{path} {reason}; it is kept as {copy.name}, and made anew")
