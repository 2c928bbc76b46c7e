"""The commands, and how a mistake ends: one sentence on standard error, exit code 2."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import tyro

from recurrax.cli.flow import FlowOptions, flow
from recurrax.cli.mistakes import Mistake

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(args: Sequence[str]) -> int:
    """Run the command line.

    Args:
      args: the words after `recurrax`.

    Returns:
      The exit code: 0, or 2 for bad input. Bad usage exits with 2 from the parser.

    Example:
      >>> from recurrax.cli import run
      >>> run(["flow", "--cells", "lstm", "--data", "digits", "--hidden", "0"])
      2
    """
    app = tyro.extras.SubcommandApp()

    @app.command(name="flow")
    def _flow(options: Annotated[FlowOptions, tyro.conf.arg(name="", help="")]) -> int:
        return flow(options)

    _flow.__doc__ = FlowOptions.__doc__
    try:
        return int(
            app.cli(
                prog="recurrax",
                description="See, predict and fix how gradients travel through recurrent networks.",
                args=list(args),
                config=(tyro.conf.FlagCreatePairsOff,),
            )
        )
    except Mistake as mistake:
        print(f"recurrax: {mistake}", file=sys.stderr)
        return 2
