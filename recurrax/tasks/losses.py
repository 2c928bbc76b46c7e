"""How the tasks judge outputs: by means over what is asked for, summed in float32 at least.

What has weight 0 counts neither in value nor in gradient, not even where it is NaN or overflows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.checks import at_least, default_float

if TYPE_CHECKING:
    import chex

    from recurrax.tasks.batch import Batch


def squared_error(outputs: chex.Array, batch: Batch) -> chex.Array:
    """The mean squared error of what is asked, `sum w (y - target)^2 / sum w`, averaged over O.

    Args:
      outputs: `[T, B, O]`, floating.
      batch: a `Batch` with targets `[T, B, O]`.

    Returns:
      A scalar, float32 at least; 0 where all weights are 0.

    Raises:
      ValueError: if outputs and targets differ in shape.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> batch = rx.tasks.Batch(jnp.ones((2, 1, 1)), jnp.ones((2, 1, 1)), jnp.array([[0], [1]]))
      >>> float(rx.tasks.squared_error(jnp.array([[[9.0]], [[3.0]]]), batch))
      4.0
    """
    outputs = _wide(outputs)
    targets = jnp.asarray(batch.targets)
    if outputs.ndim != 3 or outputs.shape != targets.shape:
        raise ValueError(
            f"outputs has shape {outputs.shape}, expected [T, B, O] as the targets, {targets.shape}"
        )
    # Before the square, not after it: 0 * NaN is NaN, in the value and in the gradient.
    wanted = _zero_where_not_asked(targets.astype(outputs.dtype), batch)
    difference = _zero_where_not_asked(outputs, batch) - wanted
    return mean(jnp.square(difference).mean(-1), batch.weights)


def cross_entropy(outputs: chex.Array, batch: Batch) -> chex.Array:
    """The cross-entropy of what is asked, `-sum w log softmax(y)[target] / sum w`, in nats.

    A class that counts and is out of range, which only `check_batch` can name, makes it NaN.

    Args:
      outputs: logits `[T, B, O]`, floating.
      batch: a `Batch` with targets `[T, B]`, integers from 0 to O - 1 where weights are not 0.

    Returns:
      A scalar, float32 at least; 0 where all weights are 0.

    Raises:
      ValueError, TypeError: if the targets are no integers `[T, B]`, as the outputs are.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> batch = rx.tasks.Batch(jnp.ones((2, 1, 1)), jnp.array([[-1], [3]]), jnp.array([[0], [1]]))
      >>> round(float(rx.tasks.cross_entropy(jnp.zeros((2, 1, 4)), batch)), 4)  # ln 4
      1.3863
    """
    outputs = _wide(outputs)
    _check_classes(outputs, batch)
    # What does not count may be any class; of the rest, -1 is not to mean the last one.
    outputs = _zero_where_not_asked(outputs, batch)
    targets = jnp.where(jnp.asarray(batch.weights) != 0, jnp.asarray(batch.targets, jnp.int32), 0)
    targets = jnp.where(targets < 0, outputs.shape[-1], targets)
    logs = jax.nn.log_softmax(outputs)
    chosen = jnp.take_along_axis(logs, targets[..., None], axis=-1, mode="fill")
    return mean(-chosen[..., 0], batch.weights)


def accuracy(outputs: chex.Array, batch: Batch) -> chex.Array:
    """The fraction of what is asked whose largest output is the target's.

    Args:
      outputs: `[T, B, O]`, floating.
      batch: a `Batch` with targets `[T, B]`, integers.

    Returns:
      A scalar of JAX's default float; 0 where all weights are 0.

    Raises:
      ValueError, TypeError: if the targets are no integers `[T, B]`, as the outputs are.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> batch = rx.tasks.Batch(jnp.ones((2, 1, 1)), jnp.array([[1], [3]]), jnp.ones((2, 1)))
      >>> float(rx.tasks.accuracy(jnp.eye(4)[None, [1]].repeat(2, 0), batch))
      0.5
    """
    return mean(right(outputs, batch), batch.weights)


def right(outputs: chex.Array, batch: Batch) -> chex.Array:
    """Whether the largest output is the target, bool `[T, B]`."""
    _check_classes(outputs, batch)
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
    array = jnp.asarray(array)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return at_least(array, jnp.float32 if floating else default_float())


def _zero_where_not_asked(array: chex.Array, batch: Batch) -> chex.Array:
    """`[T, B, O]` with zeros where no answer is asked for."""
    return jnp.where(jnp.asarray(batch.weights)[..., None] != 0, array, 0)


def _check_classes(outputs: chex.Array, batch: Batch) -> None:
    targets = jnp.asarray(batch.targets)
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"targets must be integer classes [T, B], got {targets.dtype}")
    if jnp.ndim(outputs) != 3 or jnp.shape(outputs)[:2] != targets.shape:
        raise ValueError(
            f"outputs has shape {jnp.shape(outputs)}, expected [T, B, O] with [T, B] = "
            f"{targets.shape}, as the targets"
        )
