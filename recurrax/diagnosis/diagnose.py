"""What is wrong with a model: every layer is measured, and what is to blame is named."""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from recurrax import interop
from recurrax.cell import Cell, as_step, check_cell
from recurrax.cells import CELLS
from recurrax.cells.bidirectional import Bidirectional
from recurrax.cells.stack import BidirectionalStack
from recurrax.diagnosis.causes import causes_of
from recurrax.diagnosis.feed import Model, fed_text, feed_each
from recurrax.diagnosis.measure import (
    Layer,
    Measured,
    felt_by_the_last_output,
    measure,
    of_jacobians,
)
from recurrax.diagnosis.records import Diagnosis, Finding, LayerDiagnosis
from recurrax.diagnosis.remedies import best_cure, without_cure
from recurrax.diagnosis.sentences import sentence
from recurrax.diagnosis.sequences import sequences_of, sequences_text
from recurrax.flow.parts import parts
from recurrax.gated.step import GatedStep

if TYPE_CHECKING:
    import chex


# The kinds of layers that an option of a converter is about, where a source holds others too.
_ABOUT = {
    "activation": ("elman", "elman-relu"),
    "forget_bias": ("lstm", "lstm-projection"),
}


def diagnose(
    source: Any,
    params: Any = None,
    xs: Any = None,
    *,
    state: Any = None,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
    prefix: Any = None,
    length: int = 128,
    key: chex.PRNGKey | None = None,
    **options: Any,
) -> Diagnosis:
    """What is wrong with a recurrent network, why, and what to do.

    Each layer is measured in each direction on what the layer below gives it: how fast its gradient
    vanishes or explodes, how open its gates are, what drives them. From these numbers follows what
    is to blame, and each proposed cure is tried on a copy of the layer and measured.

    Args:
      source: a `Cell`, what `rx.bidirectional` or `rx.stack` makes, or anybody's weights as
        `rx.interop.convert` takes them: a path, a state_dict, a tree of params. Of these every
        recurrent layer is diagnosed.
      params: the cell's params; None for weights.
      xs: the inputs `[T, B, I]`, or `[T, I]` of one example. None feeds unit normal noise,
        `[length, 8, I]`.
      state: the state before the first step, or None for the initial state.
      mask: bool `[T, B]`, as in `rx.unroll`.
      resets: bool `[T, B]`, as in `rx.unroll`.
      prefix: which of several recurrent layers of weights, as `rx.interop.find` names them; None
        for all. A layer that takes as many features as the one before it gives is fed its outputs,
        any other one noise; `Diagnosis.data` says what.
      length: T of the noise.
      key: of the noise; by default one that no user has, always the same.
      **options: of the converter, such as `activation="relu"` of `rx.interop.from_torch`.

    Returns:
      A `Diagnosis`, which prints as one table for each layer and sentences below it. Measured are
      at most four sequences, the longest ones, cut to one length, 1000 steps at most; a masked step
      is left out, and a reset begins a new sequence. Where the state overflows, what comes before.

    Raises:
      ValueError, TypeError: as `rx.unroll` and `rx.interop.convert` do; if weights or data that
        count are not finite, or the data have another number of features than the layer takes.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.cells.lstm(3, 16, forget_bias=-3.0)
      >>> found = rx.diagnose(cell, cell.init(jax.random.key(0)), length=50)
      >>> found.layers[0].cause
      'forget gates shut'
      >>> cured = found.layers[0].findings[0].after
      >>> cured.horizon > 10 * found.layers[0].horizon
      True

    Source: the measurements are those of `recurrax.flow`.
    """
    began = time.perf_counter()
    models = _models(source, params, prefix, options)
    found = []
    feeds = []
    for feed in feed_each(models, xs, state, mask, resets, length, key):
        feeds.append(feed)
        for name, part in parts(*feed[1:5], mask=feed.mask, resets=feed.resets).items():
            full = "/".join(word for word in (feed.name, name) if word)
            layer = Layer(full, kind_of(part.params), part.cell, part.params, *sequences_of(part))
            found.append(_examined(layer))
    data = f"{fed_text(feeds)}; measured on {sequences_text(found[0].decay.log_norm.shape)}"
    return Diagnosis(tuple(found), data, time.perf_counter() - began)


def _models(source: Any, params: Any, prefix: Any, options: dict[str, Any]) -> list[Model]:
    """Every model of a source, or the one that is given."""
    if isinstance(source, (Cell, Bidirectional, BidirectionalStack)):
        if params is None:
            raise TypeError(
                "params are missing: rx.diagnose(cell, params, xs). Of weights of another library "
                "or a file give only these: rx.diagnose(weights, xs=xs)"
            )
        for name, value in {"prefix": prefix, **options}.items():
            if value is not None:
                raise TypeError(f"{name} is for weights that are converted; a cell was given")
        return [Model("", source, params)]
    if inspect.isroutine(source) or isinstance(source, (type, GatedStep)):
        as_step(source)
        check_cell("rx.diagnose", source)
    if params is not None:
        raise TypeError(
            "params are for a cell; weights hold their own: rx.diagnose(weights, xs=xs)"
        )
    if prefix is not None:
        return [Model("", *interop.convert(source, prefix=prefix, **options))]
    every = interop.find(source)
    if len(every) < 2:  # `convert` says what there is, if nothing fits
        return [Model("", *interop.convert(source, **options))]
    models = []
    there = {one.kind for one in every}
    for one in every:
        own = dict(options)
        for option, kinds in _ABOUT.items():
            if one.kind not in kinds and there.intersection(kinds):  # it is about another layer
                own.pop(option, None)
        models.append(Model(one.prefix, *interop.convert(source, prefix=one.prefix, **own)))
    return models


def kind_of(params: Any) -> str:
    """The name of the cell whose params these are."""
    found = (name for name, row in CELLS.items() if isinstance(params, row.params))
    return next(found, "own")


def _examined(layer: Layer) -> LayerDiagnosis:
    """Measure a layer, name what is wrong, and try what to do."""
    found = measure(layer)
    if found.overflow is not None:
        layer = layer._replace(xs=layer.xs[: found.steps])
    findings = [_finding(cause, layer, found) for cause in causes_of(found)]
    findings.sort(key=lambda finding: finding.after is None)  # what a cure bore out comes first
    seen, (radius, norm) = found.activity, of_jacobians(layer)
    radii, norms = _of_blocks(layer, found)
    input_share, bias_share, _ = seen.shares
    size, hidden = layer.xs.shape[-1], _hidden(layer)
    return LayerDiagnosis(
        name=layer.name,
        kind=layer.kind,
        cell=layer.cell,
        params=layer.params,
        input_size=size,
        hidden_size=hidden,
        verdict=found.verdict,
        decay=found.decay,
        horizon=found.flow.horizon,
        rate=found.flow.rate,
        exponent=found.exponent,
        gates=seen.gates,
        spectral_radius=radii,
        largest_singular_value=norms,
        jacobian_radius=radius,
        jacobian_norm=norm,
        loss_gradients=felt_by_the_last_output(layer),
        input_share=input_share,
        bias_share=bias_share,
        findings=tuple(findings),
    )


def _finding(cause: str, layer: Layer, found: Measured) -> Finding:
    says = sentence(cause, layer.name, found)
    tried = best_cure(cause, layer, found)
    if tried is None:
        return Finding(cause, says, without_cure(cause, layer), None, found.flow, None)
    return Finding(cause, says, tried.cure.words, tried.cure.code, found.flow, tried.after)


def _hidden(layer: Layer) -> int:
    """H: units, of which an LSTM has two numbers in its state."""
    one = jax.tree.leaves(jax.eval_shape(layer.cell.initial_state, layer.params))
    return max((int(leaf.shape[-1]) for leaf in one if leaf.shape), default=1)


def _of_blocks(layer: Layer, found: Measured) -> tuple[dict[str, float], dict[str, float]]:
    """Spectral radius and norm of each gate's block of w_rec, from units to units."""
    names = list(found.activity.parts)
    if not names:
        return {}, {}
    w_rec = np.asarray(layer.params.w_rec, np.float64)
    projection = getattr(layer.params, "w_proj", None)
    if projection is not None:
        w_rec = np.asarray(projection, np.float64) @ w_rec
    blocks = np.split(w_rec, len(names), axis=-1)
    radii = np.abs(np.linalg.eigvals(blocks)).max(-1)
    norms = np.linalg.norm(blocks, 2, axis=(1, 2))
    pairs = (dict(zip(names, values.tolist(), strict=True)) for values in (radii, norms))
    return next(pairs), next(pairs)
