"""Pictures of what the microscope measures, with matplotlib."""

from recurrax.plot.advice import advice
from recurrax.plot.axes import blank_axes, save
from recurrax.plot.comparison import comparison
from recurrax.plot.decay import decay
from recurrax.plot.diagnosis import diagnosis
from recurrax.plot.gradient_map import gradient_map
from recurrax.plot.lag_profile import lag_profile
from recurrax.plot.loss_gradients import loss_gradients
from recurrax.plot.lyapunov import lyapunov
from recurrax.plot.paths import paths
from recurrax.plot.report import report
from recurrax.plot.spectrum import spectrum
from recurrax.plot.training import history, training

__all__ = [
    "advice",
    "blank_axes",
    "comparison",
    "decay",
    "diagnosis",
    "gradient_map",
    "history",
    "lag_profile",
    "loss_gradients",
    "lyapunov",
    "paths",
    "report",
    "save",
    "spectrum",
    "training",
]
