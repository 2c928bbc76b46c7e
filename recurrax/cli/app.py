"""The commands, and how a mistake ends: one sentence on standard error, exit code 2."""

from __future__ import annotations

import dataclasses
import pkgutil
from typing import TYPE_CHECKING, Any

import tyro

from recurrax.cli.console import Mistake, say
from recurrax.cli.options import flag_of
from recurrax.words import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

# The options of each command: a dataclass whose docstring is the help and whose `run` runs it.
# It is imported once it is asked for, so that a command that does not train needs no Optax.
COMMANDS = {
    "flow": "recurrax.cli.flow.flow_command:FlowOptions",
    "train": "recurrax.cli.train.train_command:TrainOptions",
    "compare": "recurrax.cli.compare.compare_command:CompareOptions",
    "diagnose": "recurrax.cli.diagnose.diagnose_command:DiagnoseOptions",
    "advise": "recurrax.cli.advise.advise_command:AdviseOptions",
    "reproduce": "recurrax.cli.reproduce.reproduce_command:ReproduceOptions",
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
    name, *words = args or [""]
    known = ", ".join(COMMANDS)
    try:
        if name in ("-h", "--help"):
            tyro.extras.subcommand_cli_from_dict(
                {command: pkgutil.resolve_name(kind) for command, kind in COMMANDS.items()},
                prog="recurrax",
                description="See, predict and fix how gradients travel through recurrent networks.",
                args=list(args),
                config=_CONFIG,
            )
        if not args:
            raise Mistake(f"give a command: {known} (see recurrax --help)")
        if name not in COMMANDS:
            raise Mistake(f"unknown command {name!r}; choose from {known} (see recurrax --help)")
        kind: Any = pkgutil.resolve_name(COMMANDS[name])
        words = getattr(kind, "arranged", list)(words)
        options, unknown = tyro.cli(
            kind, prog=f"recurrax {name}", args=words, config=_CONFIG, return_unknown_args=True
        )
        if unknown:
            flags = [flag_of(field.name) for field in dataclasses.fields(kind)]
            meant = nearest(unknown[0].split("=")[0], flags, cutoff=0.75, show=str)
            raise Mistake(f"unknown option {unknown[0]!r}{meant} (see recurrax {name} --help)")
        code: int = options.run()
        return code
    except Mistake as mistake:
        say(str(mistake))
        return 2
