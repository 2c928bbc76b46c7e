"""What every clipping of an optimizer shares: the norm of an update, and what is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from recurrax import checks
from recurrax.flow.numbers.scaled import power_of_two, scale_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

_POLICIES = ("skip", "zero", "propagate")


class Measurement(NamedTuple):
    """An update with its norm over all leaves, `length * 2**exponent`."""

    updates: Any  # under "zero" its non-finite entries are zero
    length: chex.Array  # [], float32 at least
    exponent: chex.Array  # int32 []
    bad: chex.Array  # bool [], whether it came with a NaN or an infinity
    known: chex.Array  # bool [], whether the norm is a number: not bad, or bad and zeroed

    @property
    def norm(self) -> chex.Array:
        """The norm in float32; of a finite update at most the largest float32."""
        norm = (self.length * power_of_two(self.exponent, self.length.dtype)).astype(jnp.float32)
        return jnp.where(self.known, jnp.minimum(norm, jnp.finfo(jnp.float32).max), norm)


class Verdict(NamedTuple):
    """What a clipping decides about one update."""

    threshold: Any  # the norm that a long update is shortened to
    long: chex.Array  # bool [], whether it is shortened
    memory: dict[str, Any]  # the fields of the state that are this clipping's own
    dropped: Any = False  # bool [], whether nothing is left of it


def clipping(
    state_class: Any,
    judge: Callable[[Measurement, Any], Verdict],
    nonfinite: str,
    memory: dict[str, Any],
) -> optax.GradientTransformation:
    """The transformation that measures an update, judges it, and shortens or drops it.

    Args:
      state_class: a NamedTuple class with the fields norm, clipped, nonfinite and steps, which are
        kept here, and those of `memory`.
      judge: `judge(measurement, state) -> Verdict`.
      nonfinite: the policy for an update that holds NaN or infinity.
      memory: the first values of the fields that are this clipping's own, in NumPy.

    Raises:
      ValueError: if the policy is unknown.
    """
    checks.check_choice("nonfinite", nonfinite, _POLICIES)
    zero = np.int32(0)
    start = {"norm": np.float32(0), "clipped": zero, "nonfinite": zero, "steps": zero} | memory

    def init(params: Any) -> Any:
        del params
        # Each field is an array of its own, since shared buffers cannot be donated.
        return state_class(**{name: jnp.array(value) for name, value in start.items()})

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        measurement = measure(updates, nonfinite)
        threshold, long, memory, dropped = judge(measurement, state)
        shortened = shorten(measurement, threshold, long)
        if nonfinite == "skip":
            dropped = dropped | measurement.bad
        kept = jax.tree.map(lambda g: jnp.where(dropped, jnp.zeros_like(g), g), shortened)
        return kept, state._replace(
            norm=measurement.norm,
            clipped=state.clipped + long.astype(jnp.int32),
            nonfinite=state.nonfinite + measurement.bad.astype(jnp.int32),
            steps=state.steps + 1,
            **memory,
        )

    return optax.GradientTransformation(init, update)


def as_number(name: str, value: Any) -> float:
    """A number, also in a concrete array without axes, as the float that it is."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} must be a number that is known when compiling, got a traced value: make it a "
            "Python float outside of jax.jit"
        )
    if not _is_real(value):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        plain = float(value)
    except OverflowError:  # the integer is not shown, since Python refuses to print a very long one
        raise ValueError(f"{name} must be finite, got an integer beyond every float") from None
    checks.check_number(name, plain)
    return plain


def above_zero(name: str, value: Any) -> float:
    """A number above 0, as a float."""
    plain = as_number(name, value)
    if plain <= 0:
        raise ValueError(f"{name} must be above 0, got {value}")
    return plain


def _is_real(value: Any) -> bool:
    if not hasattr(value, "dtype"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    return bool(real and jnp.ndim(value) == 0)


def check_floating(updates: Any) -> None:
    """Refuse a leaf that has no gradient to shorten."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{checks.leaf_name('updates', path)} must be a floating-point array, got "
                f"{checks.kind(leaf)}: take gradients by floating-point parameters alone, or leave "
                "the others out with optax.masked"
            )


def measure(updates: Any, nonfinite: str) -> Measurement:
    """The norm of an update; under `"zero"` that of its finite entries, which alone are left."""
    check_floating(updates)
    flags = [~jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(updates)]
    bad = jnp.any(jnp.stack(flags)) if flags else jnp.asarray(False)
    known = ~bad
    if nonfinite == "zero":
        updates = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), updates)
        known = jnp.ones_like(bad)
    return Measurement(updates, *_scaled_norm(updates), bad, known)


def global_norm(tree: Any) -> chex.Array:
    """The 2-norm over all leaves, in float32 at least; no square in it over- or underflows."""
    length, exponent = _scaled_norm(tree)
    return length * power_of_two(exponent, length.dtype)


def is_longer(measurement: Measurement, max_norm: Any) -> chex.Array:
    """Whether the norm is known and above a maximum."""
    unit = power_of_two(-measurement.exponent, measurement.length.dtype)
    return measurement.known & (measurement.length > max_norm * unit)


def shorten(measurement: Measurement, max_norm: Any, long: chex.Array) -> Any:
    """`g max_norm / ||g||` where `long`, else the update as it is."""
    length = measurement.length
    unit = power_of_two(-measurement.exponent, length.dtype)
    # A max_norm next to the largest number, and a norm of zero, would make the ratio infinite.
    ratio = jnp.minimum(max_norm / length, jnp.finfo(length.dtype).max)

    def short(g: Any) -> Any:
        wide = g.astype(jnp.promote_types(g.dtype, jnp.float32))
        scaled = wide * unit.astype(wide.dtype) * ratio.astype(wide.dtype)
        return jnp.where(long, scaled, wide).astype(g.dtype)

    return jax.tree.map(short, measurement.updates)


def _scaled_norm(updates: Any) -> tuple[chex.Array, chex.Array]:
    """The global norm as `length * 2**exponent`, entries scaled to a largest of 1/2 to 4."""
    leaves = [
        g.astype(jnp.promote_types(g.dtype, jnp.float32))
        for g in jax.tree.leaves(updates)
        if g.size
    ]
    if not leaves:
        return jnp.zeros([]), jnp.zeros([], jnp.int32)
    exponent = scale_of(jnp.stack([jnp.max(jnp.abs(g)) for g in leaves]), (0,))
    squares = [jnp.sum((g * power_of_two(-exponent, g.dtype)) ** 2) for g in leaves]
    return jnp.sqrt(jnp.sum(jnp.stack(squares))), exponent
