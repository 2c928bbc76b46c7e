"""The microscope: where a gradient goes in a recurrent network, one question a function.

All take `(cell, params, state, xs)`, look at the whole state of each example, and carry every
product in log scale. `d s_t / d s_0 = A_t ... A_2 A_1`. Sequences are measured whole: there is no
mask, and what `rx.bidirectional` makes is measured one direction at a time.
"""

from recurrax.flow.bounds import Bounds, bounds
from recurrax.flow.covariant import CovariantVectors, covariant_vectors
from recurrax.flow.decay import Decay, decay
from recurrax.flow.gate_statistics import GateStatistics
from recurrax.flow.gradient_map import GradientMap, gradient_map
from recurrax.flow.horizon import Horizon, horizon, rate, verdict
from recurrax.flow.jacobians import jacobians
from recurrax.flow.lag_profile import LagProfile, lag_profile
from recurrax.flow.loss_gradients import LossGradients, loss_gradients
from recurrax.flow.lyapunov import Lyapunov, lyapunov
from recurrax.flow.paths import Paths, paths
from recurrax.flow.predict import Prediction, predict
from recurrax.flow.report import Report, report
from recurrax.flow.spectrum import Spectrum, spectrum
from recurrax.flow.truncation import truncation
from recurrax.flow.watch import Watched, watch

__all__ = [
    "Bounds",
    "CovariantVectors",
    "Decay",
    "GateStatistics",
    "GradientMap",
    "Horizon",
    "LagProfile",
    "LossGradients",
    "Lyapunov",
    "Paths",
    "Prediction",
    "Report",
    "Spectrum",
    "Watched",
    "bounds",
    "covariant_vectors",
    "decay",
    "gradient_map",
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
    "watch",
]
