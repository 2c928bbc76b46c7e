"""`recurrax reproduce`: published numbers, measured again, and whether they agree."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import numpy as np
import tyro

from recurrax import published
from recurrax.cli import console
from recurrax.cli.options import arg, check_folder
from recurrax.cli.reproduce.verdicts import in_one_sentence, print_claim
from recurrax.published.measured import NoRowsError

if TYPE_CHECKING:
    from recurrax.published import Claim, Reproduced

_STOPPED = 130  # the exit code after Ctrl-C
_FILE = "reproduced.json"
_SHORT = published.names()
_LONG = [name for name in published.names(long=True) if name not in _SHORT]
_NAMES = (
    f"{', '.join(_SHORT)}; of those that take minutes: {', '.join(_LONG) or 'none'}; or "
    "MODULE:NAME of a rx.published.Claim of your own, such as one in a file of this folder."
)


@dataclasses.dataclass(frozen=True)
class ReproduceOptions:
    """Measure published numbers again, and say of each whether it agrees.

    Prints for each claim what was published, what comes out here with its range over seeds, how far
    the two may be apart, and the verdict: agrees, differs, or not comparable with the reason. A
    number that differs is a result: the exit code is 0 once everything has been measured.
    """

    names: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(
            metavar="[NAME ...]", help=_NAMES, help_behavior_hint="(default: all that take seconds)"
        ),
    ] = ()
    long: bool = False
    """Without a NAME, also those that train for minutes, up to ten each; a NAME needs no --long."""
    out: Annotated[Path | None, arg("DIR", "none is written")] = None
    """Folder for reproduced.json, which grows with each claim; made if it is not there."""
    json: bool = False
    """Print the numbers as JSON and nothing else; what is not finite is the string "inf", "-inf" or "nan"."""  # noqa: E501

    def run(self) -> int:
        """Run the command; return the exit code."""
        if any(":" in name for name in self.names):  # a file of this folder is a module too
            sys.path.append(os.getcwd())
        with console.as_mistakes(ValueError):
            claims = [published.get(name) for name in self.names or published.names(long=self.long)]
        claims = list(dict.fromkeys(claims))
        called = [claim.name for claim in claims]
        if twice := [name for name in dict.fromkeys(called) if called.count(name) > 1]:
            raise console.Mistake(f"two claims have the name {twice[0]!r}: rename one of them")
        if self.out is not None:
            check_folder(self.out)
        start = time.perf_counter()
        results, stopped = self._measured(claims)
        if self.json:
            print(document_of(self, results))
        else:
            console.terminal().print(in_one_sentence(results, time.perf_counter() - start))
            if self.out is not None and results:
                console.print_written([self.out / _FILE])
        if stopped:
            console.say(f"stopped after {len(results)} of {len(claims)} claims")
        return _STOPPED if stopped else 0

    def _measured(self, claims: list[Claim]) -> tuple[list[Reproduced], bool]:
        """Return what is known of each claim, and whether Ctrl-C came before the last."""
        results: list[Reproduced] = []

        with console.progress(claims[0].name, len(claims)) as update:

            def tell(result: Reproduced) -> None:
                results.append(result)
                if self.out is not None:
                    self._write(results)
                if not self.json:
                    print_claim(result)
                following = claims[len(results) : len(results) + 1]
                update(advance=1, description=" ".join(claim.name for claim in following))

            try:
                with console.as_mistakes(ImportError, NoRowsError):
                    published.reproduce(claims, tell=tell)
            except KeyboardInterrupt:
                return results, True
        return results, False

    def _write(self, results: list[Reproduced]) -> None:
        with console.as_mistakes(OSError, prefix=f"--out {self.out}: "):
            text = document_of(self, results)
            (self.out or Path()).joinpath(_FILE).write_text(text + "\n", encoding="utf-8")


def document_of(options: ReproduceOptions, results: list[Reproduced]) -> str:
    """Return the JSON: the versions and the machine, each claim with its rows, and the counts."""
    claims: dict[str, Any] = {}
    for claim, rows, seconds in results:
        told = {name: getattr(claim, name) for name in ("title", "source", "setting", "long")}
        precision = "float64" if claim.float64 else "float32"
        claims[claim.name] = told | {"dtype": precision, "seconds": seconds, "rows": rows}
    verdicts = [row.verdict for result in results for row in result.rows]
    return console.document(
        dataclasses.asdict(options),
        jaxlib=version("jaxlib"),
        numpy=np.__version__,
        python=platform.python_version(),
        device=f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
        cores=os.cpu_count(),
        verdicts={verdict: verdicts.count(verdict) for verdict in published.VERDICTS},
        claims=claims,
    )
