"""Copying after a long wait: LSTMs whose gates begin at many time scales, and standard ones."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import jax
import numpy as np

from recurrax.cells.lstm import lstm
from recurrax.published.claim import Claim, not_comparable, stated
from recurrax.tasks.copying import copying

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.cell import Cell
    from recurrax.published.claim import Row
    from recurrax.train.compare import Trial

LAG, UNITS, BATCH, SEEDS, UPDATES = 100, 128, 32, 3, 2_000
RATE, DECAY = 1e-3, 0.9  # of RMSprop
FORGET = 1.0  # the standard network's bias
REPORT_EVERY = 200
THEIRS = "T = 500 and 2,000"


def cells(features: int) -> dict[str, Cell]:
    """The two that are compared; the longest time scale is one and a half times the lag."""
    from recurrax.cures.init.biases import chrono

    biases = chrono(3 * LAG // 2)
    return {
        "standard": lstm(features, UNITS, forget_bias=FORGET),
        "chrono": lstm(features, UNITS, forget_bias=0.0, bias_init=biases),
    }


def trained() -> dict[str, Trial]:
    """Both, from the same keys and on the same batches, several seeds of each."""
    import optax

    from recurrax.train.compare import compare

    task = copying(LAG)
    found = compare(
        task,
        cells(task.input_size),
        key=jax.random.key(0),
        steps=UPDATES,
        seeds=SEEDS,
        batch_size=BATCH,
        learning_rate=RATE,
        optimizer=partial(optax.rmsprop, decay=DECAY, eps=1e-8),
        report_every=min(REPORT_EVERY, UPDATES),
    )
    return {trial.cell: trial for trial in found.trials}


def losses_beside_a_guess() -> Iterator[Row]:
    """Of fresh sequences, divided by the loss of whoever remembers nothing."""
    trials = trained()
    baseline = dict(copying(LAG).baseline)["loss"]
    ratios = {name: np.asarray(trial.final["loss"]) / baseline for name, trial in trials.items()}
    for name, words in (("standard", "stay at a guess"), ("chrono", "learn it")):
        reason = f"said to {words}, in words, at T = {THEIRS} and after far more updates"
        yield not_comparable(f"{name}: loss / loss of a guess", math.nan, ratios[name], reason)
    ahead = ratios["standard"] / ratios["chrono"]
    note = f"in each of {SEEDS} seeds; at T = {LAG}, not {THEIRS}"
    what = "loss, standard / chrono"
    yield stated(what, ahead, bool((ahead > 1).all()), "above 1: chrono learns sooner", note)


COPIES = Claim(
    "chrono-copying",
    "copying memory: chrono LSTMs learn it where standard ones stay at a guess",
    "Tallec and Ollivier 2018, section 3; batches as in task/copyTask.py of "
    "github.com/atremblay/chronoRNN",
    f"T = {LAG} and {UPDATES:,} updates, not {THEIRS} and 30,000; {UNITS} units, batch {BATCH}, "
    f"RMSprop {RATE:g} of decay {DECAY:g}, T_max = 1.5 T, forget bias {FORGET:g} in "
    f"the standard one, {SEEDS} seeds",
    losses_beside_a_guess,
    long=True,
)
