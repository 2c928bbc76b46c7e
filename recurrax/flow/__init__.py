"""The microscope: where a gradient goes in a recurrent network, one question a function.

All take `(cell, params, state, xs)`, look at the whole state of each example, and carry every
product in log scale. `d s_t / d s_0 = A_t ... A_2 A_1`. Sequences are measured whole: there is no
mask, and what `rx.bidirectional` makes is measured one direction at a time.
"""

from recurrax.flow.bounds import Bounds, bounds
from recurrax.flow.decay import Decay, decay
from recurrax.flow.horizon import Horizon, horizon, rate, verdict
from recurrax.flow.jacobians import jacobians
from recurrax.flow.loss_gradients import LossGradients, loss_gradients

__all__ = [
    "Bounds",
    "Decay",
    "Horizon",
    "LossGradients",
    "bounds",
    "decay",
    "horizon",
    "jacobians",
    "loss_gradients",
    "rate",
    "verdict",
]
