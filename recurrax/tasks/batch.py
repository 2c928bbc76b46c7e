"""Sequences and the answers to them, and what makes them fit for a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks

if TYPE_CHECKING:
    import chex

_FLAGS = ("mask", "begins")  # which a batch may be without


class Batch(NamedTuple):
    """Sequences, the answers to them, and which answers count."""

    xs: chex.Array  # [T, B, I], floating; as a Split stores it also integer symbols [T, B]
    targets: chex.Array  # [T, B], the class as an integer, or [T, B, O], floating
    weights: chex.Array  # [T, B], how much each answer counts; 0 where none is asked for
    mask: chex.Array | None = None  # bool [T, B], as in rx.unroll; None: every step is one
    begins: chex.Array | None = None  # bool [B]; False: goes on from the batch before. None: all


class Split(NamedTuple):
    """Fixed data in two parts: NumPy arrays, stored as small as they can be."""

    train: Batch
    test: Batch


def check_batch(
    batch: Batch, input_size: int | None = None, output_size: int | None = None
) -> None:
    """Refuse a batch of your own that no loss can be computed of.

    Shapes are checked always, values of concrete arrays only: inside `jax.jit` there are none yet.
    Targets that do not count, those of weight 0, may hold any class, and NaN.

    Args:
      batch: a `Batch` with xs `[T, B, I]`, targets `[T, B]` (classes) or `[T, B, O]` (numbers) and
        weights `[T, B]`; xs may be integer symbols `[T, B]`, as a `Split` stores them. Where it has
        a mask `[T, B]`, what stands in xs where that is False is not looked at.
      input_size: I, if it is known.
      output_size: O, if it is known: how many classes there are, or numbers to answer.

    Raises:
      ValueError, TypeError: if shapes disagree, a class or symbol is out of range, a weight is
        negative, or a number that counts is not finite.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> batch = rx.tasks.Batch(jnp.zeros((5, 3, 2)), jnp.full((5, 3), 10), jnp.ones((5, 3)))
      >>> rx.tasks.check_batch(batch, output_size=10)
      Traceback (most recent call last):
        ...
      ValueError: targets is 10 at index (0, 0), out of range: 10 outputs are the classes 0 to 9
    """
    if not isinstance(batch, Batch):
        raise TypeError(
            f"batch must be a rx.tasks.Batch(xs, targets, weights), got {type(batch).__name__}"
        )
    for name, leaf in batch._asdict().items():
        if not hasattr(leaf, "dtype") and (leaf is not None or name not in _FLAGS):
            raise TypeError(f"{name} must be an array, got {type(leaf).__name__}")
    steps = checks.check_steps(batch.xs)
    _check_rank("xs", batch.xs, "symbols", "I", input_size)
    lead = (steps, batch.xs.shape[1])
    if lead[1] == 0:
        raise ValueError("xs holds no sequences (B = 0); expected B >= 1")
    _check_rank("targets", batch.targets, "classes", "O", output_size)
    targets, weights = batch.targets.shape, batch.weights.shape
    for name, shape, own in (("targets", targets, targets[:2]), ("weights", weights, weights)):
        if own != lead:
            raise ValueError(f"{name} has shape {shape}, but xs has [T, B] = {lead}")
    for name, flags, axes, own in (
        ("mask", batch.mask, "[T, B]", lead),
        ("begins", batch.begins, "[B]", lead[1:]),
    ):
        if flags is not None and (flags.dtype != bool or flags.shape != own):
            raise ValueError(f"{name} must be bool {axes} = {own}, got {checks.show(flags)}")
    if any(isinstance(leaf, jax.core.Tracer) for leaf in batch):
        return
    xs, answers, counts = (np.asarray(leaf) for leaf in batch[:3])
    xs = _zero_unless(xs, None if batch.mask is None else np.asarray(batch.mask))
    answers = _zero_unless(answers, counts != 0)
    checked = Batch(xs, answers, counts)
    checks.check_finite("batch", checked, "Leave those steps out, or fill them.")
    if (counts < 0).any():
        raise ValueError("weights must not be negative; a step of weight 0 does not count")
    _check_range("xs", xs, input_size, "inputs are the symbols")
    _check_range("targets", answers, output_size, "outputs are the classes")


def is_integer(array: Any) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.integer))


def _zero_unless(array: np.ndarray, counts: np.ndarray | None) -> np.ndarray:
    """Return an array that leads with `[T, B]`, zero where it does not count."""
    if counts is None:
        return array
    counts = counts.reshape(counts.shape + (1,) * (array.ndim - 2))
    return np.where(counts, array, np.zeros_like(array))


def _check_rank(name: str, array: Any, integers: str, last: str, size: int | None) -> None:
    """Refuse what is neither `[T, B]` of symbols or classes, nor `[T, B, size]` of numbers."""
    shape = array.shape
    if is_integer(array):
        if len(shape) != 2:
            raise ValueError(f"{name} has shape {shape}, expected [T, B] for integer {integers}")
    elif len(shape) != 3:
        raise ValueError(f"{name} has shape {shape}, expected [T, B, {last}] for {array.dtype}")
    elif size is not None and shape[2] != size:
        raise ValueError(f"{name} has shape {shape}, expected [T, B, {last}] with {last} = {size}")


def _check_range(name: str, values: np.ndarray, count: int | None, words: str) -> None:
    """Refuse integers that are no symbols or classes; numbers, and an unknown count, pass."""
    if count is None or not is_integer(values):
        return
    wrong = np.argwhere((values < 0) | (values >= count))
    if len(wrong):
        where = tuple(int(i) for i in wrong[0])
        raise ValueError(
            f"{name} is {values[where]} at index {where}, out of range: {count} {words} 0 to "
            f"{count - 1}"
        )
