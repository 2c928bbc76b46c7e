"""Training: one call, with its checkpoints, its history, and any number of devices."""

from recurrax.train.fit import Fit, fit
from recurrax.train.interrupt import Interrupted
from recurrax.train.network import Network, NetworkParams, network

__all__ = ["Fit", "Interrupted", "Network", "NetworkParams", "fit", "network"]
