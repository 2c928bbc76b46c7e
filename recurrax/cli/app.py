"""The commands, and how a mistake ends: one sentence on standard error, exit code 2."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import tyro

from recurrax.cli.compare.compare_options import CompareOptions
from recurrax.cli.console import Mistake, say
from recurrax.cli.flow.flow_command import FlowOptions, flow
from recurrax.cli.options import flag_of
from recurrax.cli.train.train_command import TrainOptions, train
from recurrax.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def compare(options: CompareOptions) -> int:
    """Run `recurrax compare`; return the exit code."""
    # Here, so that a command that does not train does not wait for Optax.
    from recurrax.cli.compare.run_comparison import run_comparison

    return run_comparison(options)


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
    """Show the help of `recurrax` alone, or refuse the first word."""
    if args and args[0] in ("-h", "--help"):
        tyro.extras.subcommand_cli_from_dict(
            {name: kind for name, (kind, _) in _COMMANDS.items()},
            prog="recurrax",
            description="See, predict and fix how gradients travel through recurrent networks.",
            args=list(args),
            config=_CONFIG,
        )
    known = ", ".join(_COMMANDS)
    what = (
        f"unknown command {args[0]!r}; choose from {known}" if args else f"give a command: {known}"
    )
    raise Mistake(f"{what} (see recurrax --help)")


def _unknown_option(name: str, kind: Any, word: str) -> str:
    """Return what to say of an option that the command does not have."""
    known = [flag_of(field.name) for field in dataclasses.fields(kind)]
    meant = nearest(word.split("=")[0], known, cutoff=0.75, show=str)
    return f"unknown option {word!r}{meant} (see recurrax {name} --help)"
