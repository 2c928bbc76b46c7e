"""The options of `recurrax compare`, and the experiments that set many of them at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from recurrax.cli.options import TASKS, arg, integer

# What is done where neither an option nor an experiment says otherwise.
DEFAULTS: dict[str, Any] = {
    "task": "adding",
    "length": None,
    "cells": "elman,lstm,gru",
    "cures": "none,clip",
    "steps": 2000,
    "batch": 32,
    "hidden": 32,
    "rate": "0.005",
    "optimizer": "adam",
    "report_every": 100,
}


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Train cells with cures on one task, several seeds of each, and see who solves it.

    Prints a table, and writes comparison.png (learning curves, and the gradient flow before and
    after training) and comparison.json into --out.
    """

    experiment: Annotated[str | None, arg("NAME", "none")] = None
    """Options of a ready experiment, each of which another option changes: adding, exploding, clipping, copying, digits."""  # noqa: E501
    task: Annotated[str | None, arg("NAME", "adding", TASKS)] = None
    length: Annotated[int | None, arg("INT", "the task's own"), integer("--length")] = None
    """Time steps T of a sequence; of copying the lag."""
    text: Annotated[Path | None, arg("FILE", "none")] = None
    """For --task text: any file, of which the next byte is learnt."""
    cells: Annotated[str | None, arg("NAMES", "elman,lstm,gru")] = None
    """Comma-separated: elman, elman-uniform (as torch begins it), elman-relu, irnn (elman-relu-identity), elman-exploding, lstm, lstm-forget, lstm-chrono, gru."""  # noqa: E501
    cures: Annotated[str | None, arg("NAMES", "none,clip")] = None
    """Comma-separated: none, clip, percentile, zscore, skip, clip-state, detach, omega, orthogonality, flossing."""  # noqa: E501
    seeds: Annotated[int, integer("--seeds")] = 3
    """Networks trained of each pair of cell and cure, all in one program."""
    steps: Annotated[int | None, arg("INT", "2000"), integer("--steps")] = None
    """Training steps of each; fewer once all seeds of a pair have solved an endless task."""
    batch: Annotated[int | None, arg("INT", "32"), integer("--batch")] = None
    """Sequences B in one training step."""
    hidden: Annotated[int | None, arg("INT", "32"), integer("--hidden")] = None
    """Hidden units H."""
    rate: Annotated[str | None, arg("FLOATS", "0.005")] = None
    """Learning rate: of all, and of some by name, as in 0.005,irnn=0.001,lstm/clip=0.01."""
    optimizer: Annotated[str | None, arg("NAME", "adam")] = None
    """adam, adamw, nadam, rmsprop, adagrad, lion or sgd."""
    report_every: Annotated[int | None, arg("INT", "100"), integer("--report-every")] = None
    """Training steps between two points of a learning curve."""
    seed: Annotated[int, integer("--seed")] = 0
    """Of everything."""
    name: str = "comparison"
    """Of the two files, without its ending."""
    force: bool = False
    """Write over the files of a comparison before."""
    out: Annotated[Path, arg("DIR", "this folder")] = Path()
    """Folder for the picture and the numbers; made if it is not there."""
    json: bool = False
    """Print the numbers as JSON and no table; what is not finite is the string "inf", "-inf" or "nan"."""  # noqa: E501


class Experiment(NamedTuple):
    """A question, and the options of the command that ask it."""

    question: str
    words: str  # as they stand on a command line


EXPERIMENTS = {
    "adding": Experiment(
        "Which cells add two numbers that are up to 100 steps back?",
        "--task adding --length 100 --cells elman,elman-uniform,lstm,gru,irnn --cures clip "
        "--steps 10000 --rate 0.005,irnn=0.0003",
    ),
    "exploding": Experiment(
        "Does a network whose gradient explodes train without clipping, and with it?",
        "--task adding --length 20 --cells elman-exploding --cures none,clip --steps 60000 "
        "--optimizer sgd --rate 0.1 --report-every 1000",
    ),
    "clipping": Experiment(
        "Does clipping help a network whose gradient vanishes?",
        "--task adding --length 100 --cells elman,elman-uniform --cures none,clip --steps 10000 "
        "--rate 0.005",
    ),
    "copying": Experiment(
        "Which beginnings let an LSTM recall ten symbols after 200 steps?",
        "--task copying --length 200 --cells lstm,lstm-forget,lstm-chrono --cures clip "
        "--steps 5000 --hidden 64 --rate 0.01",
    ),
    "digits": Experiment(
        "Which cells tell handwritten digits that they read pixel by pixel?",
        "--task digits --cells elman,lstm,gru --cures clip --steps 2000 --batch 64 --hidden 64 "
        "--rate 0.005,elman=0.001",
    ),
}
