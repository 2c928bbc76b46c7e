"""A run of training: what is written before the first step, and the steps."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from recurrax import interop
from recurrax.cli.console import as_mistakes, say
from recurrax.interop import disk
from recurrax.train.checkpoint import check_directory
from recurrax.train.fit import Fit, fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.cli.train.run_folder import RunFolder
    from recurrax.cli.train.training_setup import TrainingSetup

_DAMAGE = ("checkpoint ", "history ")  # how warnings of damage begin
_REPORTS = 20  # of a run, at least
_LONGEST_REPORT = 50  # training steps between two reports, at most
_EVALUATIONS = 10  # reports between two looks at test data


def begin(
    folder: RunFolder, asked: dict[str, Any], setup: TrainingSetup, is_recorded: bool
) -> None:
    """Write what is written before the first step; on resuming, what a kill has kept from it."""
    with as_mistakes(ValueError, ImportError, prefix="--out: "):
        check_directory(folder.path.absolute())
    before, xs = setup.network.init(setup.key).cell, setup.xs

    def write_inputs() -> None:
        with disk.replaced(folder.inputs) as part, part.open("wb") as file:
            np.save(file, xs)

    with as_mistakes(OSError, prefix=f"--out {folder.path}: "):
        if not is_recorded:
            folder.begin(asked)
        folder.clear()
        folder.keep(
            folder.before,
            lambda: _same(interop.load(folder.before).params, before),
            lambda: interop.save(folder.before, before),
        )
        folder.keep(folder.inputs, lambda: _same(np.load(folder.inputs), xs), write_inputs)


def _same(a: Any, b: Any) -> bool:
    """Return whether all arrays of two trees are the same to the last bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def run_training(
    folder: RunFolder, asked: dict[str, Any], setup: TrainingSetup, progress: bool
) -> Fit:
    """Train, from the last checkpoint on."""
    every = max(1, min(_LONGEST_REPORT, asked["steps"] // _REPORTS))
    with as_mistakes(ValueError, ImportError, OSError), _warnings_as_sentences():
        return fit(
            setup.network,
            setup.task,
            setup.optimizer,
            key=setup.key,
            steps=asked["steps"],
            batch_size=asked["batch"],
            report_every=every,
            evaluate_every=None if setup.task.split is None else _EVALUATIONS * every,
            flow_every=asked["flow_every"],
            directory=folder.path,
            resume=True,  # that the folder is this run's own was made sure of
            progress=progress,
        )


@contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    """Say warnings of damage as a mistake would be said, and let training go on."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: Any, *rest: Any, **more: Any) -> None:
            if str(message).startswith(_DAMAGE):
                say(str(message))
            else:
                usual(message, category, *rest, **more)

        for word in _DAMAGE:
            warnings.filterwarnings("always", message=word, category=UserWarning)
        warnings.showwarning = show
        yield
