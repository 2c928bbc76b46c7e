"""Cures for gradients that vanish or explode: starts, clipping, initialisers, regularisers."""

from recurrax.cures import init
from recurrax.cures.calibration.calibrate import Calibrated, calibrate
from recurrax.cures.clipping.adaptive import (
    PercentileState,
    SpikeState,
    ZscoreState,
    clip_by_percentile,
    clip_by_zscore,
    skip_spikes,
)
from recurrax.cures.clipping.clip_state_gradient import clip_state_gradient
from recurrax.cures.clipping.global_norm import ClipState, clip_by_global_norm, clip_fraction
from recurrax.cures.detach import DetachState, detach
from recurrax.cures.penalties import flossing, omega, orthogonality

__all__ = [
    "Calibrated",
    "ClipState",
    "DetachState",
    "PercentileState",
    "SpikeState",
    "ZscoreState",
    "calibrate",
    "clip_by_global_norm",
    "clip_by_percentile",
    "clip_by_zscore",
    "clip_fraction",
    "clip_state_gradient",
    "detach",
    "flossing",
    "init",
    "omega",
    "orthogonality",
    "skip_spikes",
]
