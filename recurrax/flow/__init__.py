"""The microscope: where a gradient goes in a recurrent network, one question a function.

All take `(cell, params, state, xs)`, look at the whole state of each example, and carry every
product in log scale. `d s_t / d s_0 = A_t ... A_2 A_1`. A loss, `loss(ys) -> scalar` of the outputs
of `rx.unroll`, comes fifth.

`mask` and `resets` mean what they do in `rx.unroll`. A masked step is `A_t = 1`, and counts in no
rate, horizon or exponent, so that a row of a ragged batch is measured as it would be alone; a reset
is `A_t = 0`.

What `rx.bidirectional` makes, or `rx.stack` of such, is measured layer by layer and direction by
direction, each on the outputs of the layer below as given data: the answer of every question is
then a dict by name, as of `flow.parts`, such as `{"layer0/forward": ..., "layer0/backward": ...}`.
A loss is of the outputs of the last layer all the same, and its gradient in each part is whole.

The step is called for one example at a time, without batch axes. A `Cell` tells these by
`initial_state`, whose leaves have them or not; a leaf without them is shared by all examples, as
the params are. A bare step is taken for one example, unless an input is `[T, B, ...]`, every
floating-point leaf of the state leads with that B, and the step runs with another number of
examples too, so that a size which is B by chance is not taken for it. For other batches give a
`Cell`, or use `jax.vmap`. A result prints as one line, with its shapes and its headline.
"""

from recurrax.flow.bounds import Bounds, bounds
from recurrax.flow.covariant import CovariantVectors, covariant_vectors
from recurrax.flow.decay import Decay, decay
from recurrax.flow.gradient_map import GradientMap, gradient_map
from recurrax.flow.horizon import Horizon, horizon, rate, truncation, verdict
from recurrax.flow.jacobians import jacobians
from recurrax.flow.lag_profile import LagProfile, lag_profile
from recurrax.flow.loss_gradients import LossGradients, loss_gradients
from recurrax.flow.lyapunov import Lyapunov, lyapunov
from recurrax.flow.parts import Part, parts
from recurrax.flow.paths import Paths, paths
from recurrax.flow.predict import Prediction, predict
from recurrax.flow.report import Report, report
from recurrax.flow.spectrum import Spectrum, spectrum
from recurrax.flow.watch import GateStatistics, Watched, watch

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
    "Part",
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
    "parts",
    "paths",
    "predict",
    "rate",
    "report",
    "spectrum",
    "truncation",
    "verdict",
    "watch",
]
