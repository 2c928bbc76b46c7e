"""The recurrent gain at which a gradient neither vanishes nor explodes, measured on data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.cells.elman import elman
from recurrax.cells.gru import gru
from recurrax.cells.lstm import lstm
from recurrax.gated.cell import gated_cell
from recurrax.published.claim import NOT_PUBLISHED, Claim, compared, relative

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.published.claim import Row

# The rate of 2 sequences leaves an error of 4 % of a gain; 2 draws, not 3, to save time.
INPUTS, HIDDEN, LENGTH, SEQUENCES, SEEDS = 16, 128, 200, 8, 2


class State(NamedTuple):
    """A hidden state."""

    h: Any


def leaky(unit: None, z_in: Any, z_rec: Any, state: State) -> State:
    """`h' = .8 h + .2 tanh(z)`."""
    return State(0.8 * state.h + 0.2 * jnp.tanh(z_in[0] + z_rec[0]))


def cells() -> Iterator[tuple[str, Any, float]]:
    """Each cell and its critical gain as it was measured before; they draw their own w_rec."""
    yield "tanh network", elman(INPUTS, HIDDEN), 1.88
    yield "GRU", gru(INPUTS, HIDDEN), 3.02
    yield "LSTM, forget bias 1", lstm(INPUTS, HIDDEN), 2.78
    plain = gated_cell(leaky, gates=1, state=State, input_size=INPUTS, hidden_size=HIDDEN)
    yield "leaky cell, 0.8 and 0.2", plain, 1.86


def critical_gains() -> Iterator[Row]:
    """By `cures.calibrate`; where theory has a closed form, beside that too."""
    from recurrax.cures import calibrate  # they load Optax
    from recurrax.cures.init import critical

    init, data = jax.random.split(jax.random.key(0))
    keys = jax.random.split(init, SEEDS)
    xs = jax.random.normal(data, (LENGTH, SEQUENCES, INPUTS))
    note = f"{NOT_PUBLISHED}; the range is over draws of the weights"
    for name, cell, before in cells():
        found = calibrate(cell, jax.vmap(cell.init)(keys), xs).adjusted
        if name == "tanh network":
            theory = critical(input_variance=1.0).gain
            yield compared(f"{name}, mean field", theory, found, relative(0.03))
        yield compared(f"{name}, measured", before, found, relative(0.03), note)


GAINS = Claim(
    "critical-gains",
    "the gain of the recurrent weights at which gradients neither vanish nor explode",
    "Chen, Pennington and Schoenholz (2018) for the tanh network's mean field, chi = 1 (derived); "
    "the other rows: bisection of the measured rate with other code, not published",
    f"cures.calibrate, H = {HIDDEN}, {INPUTS} inputs N(0, 1), T = {LENGTH}, {SEQUENCES} sequences, "
    f"{SEEDS} draws of each cell's own weights",
    critical_gains,
)
