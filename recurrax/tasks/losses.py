"""What the tasks have in common when they judge outputs: means over what is asked for.

Sums are made in float32 at least, whatever the dtype of the outputs. Where no answer at all is
asked for, a mean is 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    import chex

    from recurrax.tasks.batch import Batch


def squared_error(outputs: chex.Array, batch: Batch) -> chex.Array:
    """The mean over what is asked of `mean_o (output_o - target_o)^2`."""
    outputs = _wide(outputs)
    _check_outputs(outputs, batch)
    error = jnp.square(outputs - jnp.asarray(batch.targets).astype(outputs.dtype))
    return mean(error.mean(-1), batch.weights)


def cross_entropy(outputs: chex.Array, batch: Batch) -> chex.Array:
    """The mean over what is asked of `-log softmax(output)[target]`, in nats."""
    outputs = _wide(outputs)
    _check_outputs(outputs, batch)
    # What does not count may be any class, so that nothing is read out of range.
    targets = jnp.where(jnp.asarray(batch.weights) > 0, batch.targets, 0)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[..., None], axis=-1)
    return mean(-chosen[..., 0], batch.weights)


def accuracy(outputs: chex.Array, batch: Batch) -> chex.Array:
    """The fraction of what is asked whose largest output is the target."""
    _check_outputs(outputs, batch)
    return mean(right(outputs, batch), batch.weights)


def right(outputs: chex.Array, batch: Batch) -> chex.Array:
    """Whether the largest output is the target, bool `[T, B]`."""
    return jnp.argmax(outputs, -1) == jnp.asarray(batch.targets)


def mean(values: chex.Array, weights: chex.Array) -> chex.Array:
    """`sum w v / sum w`, and 0 where all weights are 0."""
    values = _wide(values)
    weights = jnp.asarray(weights).astype(values.dtype)
    total = weights.sum()
    return (weights * values).sum() / jnp.where(total > 0, total, 1)


def mse_metrics(outputs: chex.Array, batch: Batch) -> dict[str, Any]:
    """`{"mse": mean squared error}`."""
    return {"mse": squared_error(outputs, batch)}


def accuracy_metrics(outputs: chex.Array, batch: Batch) -> dict[str, Any]:
    """`{"accuracy": fraction right}`."""
    return {"accuracy": accuracy(outputs, batch)}


def bits_metrics(outputs: chex.Array, batch: Batch) -> dict[str, Any]:
    """`{"bits_per_byte": cross-entropy / ln 2}`."""
    return {"bits_per_byte": cross_entropy(outputs, batch) / math.log(2)}


def _wide(array: chex.Array) -> chex.Array:
    return jnp.asarray(array).astype(jnp.promote_types(jnp.result_type(array), jnp.float32))


def _check_outputs(outputs: chex.Array, batch: Batch) -> None:
    targets = jnp.shape(batch.targets)
    lead = targets if len(targets) == 2 else targets[:2]
    shape = jnp.shape(outputs)
    if len(shape) != 3 or shape[:2] != lead or targets not in (lead, shape):
        raise ValueError(
            f"outputs has shape {shape}, expected [T, B, O] for targets of shape {targets}; an "
            "output is asked for at every step"
        )
