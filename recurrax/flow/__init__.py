"""The microscope: where a gradient goes in a recurrent network, one question a function.

All take `(cell, params, state, xs)`, look at the whole state of each example, and carry every
product in log scale. `d s_t / d s_0 = A_t ... A_2 A_1`. Sequences are measured whole: there is no
mask, and what `rx.bidirectional` makes is measured one direction at a time.
"""

from recurrax.flow.bounds import Bounds, bounds
from recurrax.flow.covariant import CovariantVectors, covariant_vectors
from recurrax.flow.decay import Decay, decay
from recurrax.flow.horizon import Horizon, horizon, rate, verdict
from recurrax.flow.jacobians import jacobians
from recurrax.flow.lag_profile import LagProfile, lag_profile
from recurrax.flow.loss_gradients import LossGradients, loss_gradients
from recurrax.flow.lyapunov import Lyapunov, lyapunov
from recurrax.flow.paths import GateStatistics, Paths, paths
from recurrax.flow.predict import Prediction, predict
from recurrax.flow.report import Report, report
from recurrax.flow.spectrum import Spectrum, spectrum
from recurrax.flow.truncation import truncation

__all__ = [
    "Bounds",
    "CovariantVectors",
    "Decay",
    "GateStatistics",
    "Horizon",
    "LagProfile",
    "LossGradients",
    "Lyapunov",
    "Paths",
    "Prediction",
    "Report",
    "Spectrum",
    "bounds",
    "covariant_vectors",
    "decay",
    "horizon",
    "jacobians",
    "lag_profile",
    "loss_gradients",
    "lyapunov",
    "paths",
    "predict",
    "rate",
    "report",
    "spectrum",
    "truncation",
    "verdict",
]
