"""The commands, and how a mistake ends: one sentence on standard error, exit code 2."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from recurrax.cli.compare import CompareOptions, compare
from recurrax.cli.flow import FlowOptions, flow
from recurrax.cli.mistakes import Mistake
from recurrax.cli.terminal import say
from recurrax.cli.train import TrainOptions, train
from recurrax.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# By name: the options, whose docstring is the help, and what is run with them.
_COMMANDS: dict[str, tuple[Any, Callable[[Any], int]]] = {
    "flow": (FlowOptions, flow),
    "train": (TrainOptions, train),
    "compare": (CompareOptions, compare),
}
_CONFIG = (tyro.conf.FlagCreatePairsOff,)


def run(args: Sequence[str]) -> int:
    """Run the command line.

    Args:
      args: the words after `recurrax`.

    Returns:
      The exit code: 0, 1 if a picture could not be made and all else was, 2 for bad input or bad
      usage, or 130 if Ctrl-C stopped training. For an option that lacks its value the parser itself
      exits with 2, and with 0 once it has shown the help.

    Example:
      >>> from recurrax.cli import run
      >>> run(["flow", "--cells", "lstm", "--data", "digits", "--hidden", "0"])
      2
    """
    try:
        if not args or args[0] not in _COMMANDS:
            return _no_command(args)
        name = args[0]
        kind, command = _COMMANDS[name]
        options, unknown = tyro.cli(
            kind,
            prog=f"recurrax {name}",
            args=list(args[1:]),
            config=_CONFIG,
            return_unknown_args=True,
        )
        if unknown:
            raise Mistake(_unknown_option(name, kind, unknown[0]))
        return command(options)
    except Mistake as mistake:
        say(str(mistake))
        return 2


def _no_command(args: Sequence[str]) -> int:
    """The help of `recurrax` alone, or what is wrong with the first word."""
    if args and args[0] in ("-h", "--help"):
        app = tyro.extras.SubcommandApp()
        for name, (kind, command) in _COMMANDS.items():
            app.command(name=name)(_listed(kind, command))
        words = "See, predict and fix how gradients travel through recurrent networks."
        app.cli(prog="recurrax", description=words, args=list(args), config=_CONFIG)
    known = ", ".join(_COMMANDS)
    what = (
        f"unknown command {args[0]!r}; choose from {known}" if args else f"give a command: {known}"
    )
    raise Mistake(f"{what} (see recurrax --help)")


def _listed(kind: Any, command: Callable[[Any], int]) -> Callable[[Any], int]:
    """A command as the list of all of them takes it."""

    def listed(options: Any) -> int:
        return command(options)

    listed.__annotations__ = {
        "options": Annotated[kind, tyro.conf.arg(name="", help="")],
        "return": int,
    }
    listed.__doc__ = kind.__doc__
    return listed


def _unknown_option(name: str, kind: Any, word: str) -> str:
    known = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(kind)]
    meant = nearest(word.split("=")[0], known, cutoff=0.75, show=str)
    return f"unknown option {word!r}{meant} (see recurrax {name} --help)"
