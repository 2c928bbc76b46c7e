"""Results made by hand, one for each picture, and what a picture shows of them."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import PolyCollection

import recurrax as rx

STEPS = np.arange(1.0, 13.0)
SPREAD = np.linspace(-1, 1, 11)  # the middle 80 % are -0.8 to 0.8


def decay():
    values = -0.5 * STEPS[:, None] + SPREAD
    return rx.flow.Decay(values, values + 1)


def spectrum():
    values = -np.arange(1.0, 7.0) * np.array([1.0, 10.0])[:, None, None] + SPREAD[:, None]
    return rx.flow.Spectrum(np.array([2, 20]), values, np.ptp(values, -1), np.zeros((2, 11), int))


def lyapunov():
    exponents = 0.2 - 0.3 * np.arange(5.0) + 0.1 * SPREAD[:, None]
    errors = np.full((11, 5), 0.02)
    nothing = np.zeros(11)
    return rx.flow.Lyapunov(
        exponents, errors, exponents[None], np.ones(1), nothing, nothing, nothing, nothing[None]
    )


def gradient_map(log_norm=None, every=2, count=6):
    targets, sources = every * np.arange(1, count + 1), every * np.arange(count)
    lag = targets[:, None] - sources
    if log_norm is None:
        log_norm = np.where(lag >= 0, -0.25 * lag, -np.inf)[..., None] + SPREAD
    return rx.flow.GradientMap(log_norm, log_norm, targets, sources)


def lag_profile():
    """A gradient of equal signs whose parts halve."""
    parts = 0.5 ** np.arange(12.0)
    total = parts.sum()
    error = np.append(np.cumsum(parts[:0:-1])[::-1], 0) / total
    return rx.flow.LagProfile(
        np.arange(12), np.log(parts), np.ones(12), 1 - error, error, np.log(total)
    )


def loss_gradients():
    values = 0.5 * STEPS[:, None] + SPREAD
    return rx.flow.LossGradients(np.zeros(11), values, None)


def paths():
    share = np.clip(STEPS / 10, 0, 1)[:, None] + 0.1 * SPREAD
    mean = np.stack([0.3 + 0.1 * share, 0.9 - 0.1 * share], -1)
    gates = rx.flow.GateStatistics(("i", "f"), mean, 0 * mean, 0 * mean)
    return rx.flow.Paths(share, share, share, share, gates)


def watched(steps=(-1, 0, 0, 5, 5, 10)):
    steps = np.asarray(steps)
    logs = -10.0 + 0.5 * steps
    return rx.flow.Watched(
        steps, logs, logs + 1, logs / 50, 60.0 + steps, 1 + 0.1 * steps,
        {"f": 0.5 + 0.01 * steps}, {"f": 0.01 * steps},
    )  # fmt: skip


def report():
    logs = decay().log_norm
    ends = {"log_upper": 0 * logs, "log_lower": 40 * logs - 40}
    bounds = rx.flow.Bounds(None, None, 0.1, False, True, **ends)
    tied, untied = (
        rx.flow.Prediction(rate * STEPS[:length], np.asarray(rate), weights)
        for weights, rate, length in (("tied", -0.4, 8), ("untied", -0.6, 12))
    )
    rest = dict.fromkeys(rx.flow.Report._fields)
    given = {"bounds": bounds, "tied": tied, "untied": untied, "decay": decay(), "rows": ()}
    return rx.flow.Report(**(rest | given))


MADE = {
    "decay": decay,
    "gradient_map": gradient_map,
    "history": watched,
    "lag_profile": lag_profile,
    "loss_gradients": loss_gradients,
    "lyapunov": lyapunov,
    "paths": paths,
    "report": report,
    "spectrum": spectrum,
}


def line(ax, label):
    """The one line of that label."""
    (found,) = [drawn for drawn in ax.get_lines() if drawn.get_label() == label]
    return found


def entries(ax):
    """What the legend names, in order."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def marks(ax):
    """Where each kind of mark at the edges stands."""
    return {
        drawn.get_marker(): drawn.get_xdata().tolist()
        for drawn in ax.get_lines()
        if drawn.get_marker() in ("v", "^", "x")
    }


def looks(drawn):
    """All that tells a line from another on a grey printer."""
    return drawn._unscaled_dash_pattern, drawn.get_marker()


def band(ax, number=0):
    """The lower and the upper edge of a band, in the order of x."""
    bands = [found for found in ax.collections if isinstance(found, PolyCollection)]
    corners = bands[number].get_paths()[0].vertices
    return tuple(
        np.array([edge(corners[corners[:, 0] == x, 1]) for x in np.unique(corners[:, 0])])
        for edge in (np.min, np.max)
    )
