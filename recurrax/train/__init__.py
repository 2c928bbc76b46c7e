"""Training: one call, with its checkpoints, its history, and any number of devices."""

from recurrax.train.compare import Comparison, Trial, compare
from recurrax.train.fit import Fit, fit
from recurrax.train.networks.model import Model, model
from recurrax.train.networks.network import Network, NetworkParams, network
from recurrax.train.presets import CELLS as CELLS
from recurrax.train.presets import CURES as CURES
from recurrax.train.presets import Cure
from recurrax.train.progress import Interrupted

# Of CELLS and CURES, the presets by name, no docstring can be asked, so they are not listed.
__all__ = [
    "Comparison",
    "Cure",
    "Fit",
    "Interrupted",
    "Model",
    "Network",
    "NetworkParams",
    "Trial",
    "compare",
    "fit",
    "model",
    "network",
]
