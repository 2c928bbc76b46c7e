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
    for name, words in (("standard", "beats a guess"), ("chrono", "leaves it far behind")):
        reason = f"theirs {words}, in words and curves, at T = {THEIRS}, trained for longer"
        yield not_comparable(f"{name}: loss / loss of a guess", math.nan, ratios[name], reason)
    ahead = ratios["standard"] / ratios["chrono"]
    note = f"above 1 in each of {SEEDS} seeds agrees; at T = {LAG}, not {THEIRS}"
    yield stated("loss, standard / chrono", ahead, bool((ahead > 1).all()), "chrono is ahead", note)


COPIES = Claim(
    "chrono-copying",
    "copying memory: an LSTM that begins with chrono biases outperforms one with forget bias 1",
    "Tallec and Ollivier 2018, section 3, Copy tasks, and Figure 1",
    f"T = {LAG} (theirs: {THEIRS}), {UPDATES:,} updates (30,000 in the re-run of "
    f"github.com/atremblay/chronoRNN); {UNITS} units, RMSprop {RATE:g} of decay {DECAY:g}, no "
    f"clipping, T_max = 1.5 T, forget bias {FORGET:g} in the standard one, as theirs; batch "
    f"{BATCH}, {SEEDS} seeds",
    losses_beside_a_guess,
    long=True,
)
