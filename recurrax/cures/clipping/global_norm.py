"""Clipping by the global norm of an update, and what every clipping of an optimizer shares."""

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


class ClipState(NamedTuple):
    """What clipping remembers, to be looked at with `optax.tree.get(state, "norm")`."""

    norm: chex.Array  # float32 [], the last global norm before clipping
    clipped: chex.Array  # int32 [], how many updates were shortened
    nonfinite: chex.Array  # int32 [], how many updates held a NaN or an infinity
    steps: chex.Array  # int32 [], how many updates there were


def clip_by_global_norm(max_norm: float, *, nonfinite: str = "skip") -> Any:
    """Shorten an update whose 2-norm over all leaves is above a maximum.

    `g <- g min(1, max_norm / ||g||)`. The direction is kept, so an exploding gradient becomes a
    bounded step; a vanishing one is left as it is, and the shares of near and far past within a
    gradient never change. Unlike `optax.clip_by_global_norm` the norm is summed in float32 at
    least and after scaling by the largest entry, so that a finite gradient never overflows it.

    Args:
      max_norm: above 0, known when compiling.
      nonfinite: what to do with an update that holds NaN or infinity: `"skip"` replaces all of it
        by zeros, `"zero"` its non-finite entries alone, and clips the rest, `"propagate"` lets it
        through unclipped.

    Returns:
      An `optax.GradientTransformation` with a `ClipState`, for `optax.chain`. After `"skip"` an
      optimizer that follows still counts a step with a gradient of zero.

    Raises:
      ValueError, TypeError: if max_norm is not a positive number or the policy is unknown;
        when called, if a leaf of the updates is not floating-point.

    Example:
      >>> import jax.numpy as jnp, optax, recurrax as rx
      >>> clip = rx.cures.clip_by_global_norm(1.0)
      >>> g = {"w": jnp.array([3e30, 4e30])}  # its square overflows float32
      >>> updates, state = clip.update(g, clip.init(g))
      >>> [round(float(v), 3) for v in updates["w"]], int(optax.tree.get(state, "clipped"))
      ([0.6, 0.8], 1)

    Source: algorithm 1 of Pascanu, Mikolov and Bengio (2013).
    """
    max_norm = above_zero("max_norm", max_norm)

    def judge(measurement: Measurement, state: ClipState) -> Verdict:
        del state
        # Scaled as the length is, since the norm itself may overflow.
        unit = power_of_two(-measurement.exponent, measurement.length.dtype)
        return Verdict(max_norm, measurement.known & (measurement.length > max_norm * unit), {})

    return clipping(ClipState, judge, nonfinite, {})


# --- what was clipped -----------------------------------------------------------------------------


def clip_fraction(opt_state: Any) -> chex.Array:
    """The share of the updates so far that a cure shortened or dropped for its norm.

    Non-finite updates are not among them; they are counted in `nonfinite`. The cures are found
    wherever they stand in the state of an `optax.chain`. One field is read with
    `optax.tree.get(opt_state, "clipped")`; where several cures are chained, or a parameter bears
    that name, by the name of the state: `optax.tree.get(opt_state, "ZscoreState").clipped`.

    Args:
      opt_state: the state of an optimizer, in or outside of `jax.jit`.

    Returns:
      A float32 scalar; of several cures the largest share, since each counts its own. 0 before
      the first update, and where there is none of the cures: Optax's own clipping keeps no count.

    Example:
      >>> import jax.numpy as jnp, optax, recurrax as rx
      >>> optimizer = optax.chain(rx.cures.clip_by_global_norm(1.0), optax.adam(1e-3))
      >>> state = optimizer.init(jnp.zeros(2))
      >>> for size in (0.5, 2.0, 4.0, 0.1):
      ...     _, state = optimizer.update(jnp.full(2, size), state)
      >>> float(rx.cures.clip_fraction(state)), int(optax.tree.get(state, "clipped"))
      (0.5, 2)
    """
    fraction = jnp.zeros([], jnp.float32)
    for count, steps in clip_counts(opt_state):
        share = count.astype(jnp.float32) / jnp.maximum(steps, 1).astype(jnp.float32)
        fraction = jnp.maximum(fraction, share)
    return fraction


def clip_counts(opt_state: Any) -> list[tuple[chex.Array, chex.Array]]:
    """How many updates each clipping in a state shortened or dropped, and how many there were."""

    def is_clipping(node: Any) -> bool:
        return set(ClipState._fields) <= set(getattr(node, "_fields", ()))

    found = filter(is_clipping, jax.tree.leaves(opt_state, is_leaf=is_clipping))
    return [(state.clipped + getattr(state, "skipped", 0), state.steps) for state in found]


# --- any clipping ---------------------------------------------------------------------------------


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
    """Return the transformation that measures an update, judges it, and shortens or drops it.

    Its state has the fields of `ClipState`, which are kept here, and those of `memory`, of which
    the first values are given. One called "skipped" counts updates that were dropped.
    """
    checks.check_choice("nonfinite", nonfinite, ("skip", "zero", "propagate"))
    zero = np.int32(0)
    start = {"norm": np.float32(0), "clipped": zero, "nonfinite": zero, "steps": zero} | memory

    def init(params: Any) -> Any:
        del params
        # Each field is an array of its own, since shared buffers cannot be donated.
        return state_class(**{name: jnp.array(value) for name, value in start.items()})

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        measurement = _measure(updates, nonfinite)
        threshold, long, memory, dropped = judge(measurement, state)
        shortened = _shorten(measurement, threshold, long)
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


def _measure(updates: Any, nonfinite: str) -> Measurement:
    """Return the norm of an update; under `"zero"` of its finite entries, which alone are left."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{checks.leaf_name('updates', path)} must be a floating-point array, got "
                f"{checks.kind(leaf)}: take gradients by floating-point parameters alone, or leave "
                "the others out with optax.masked"
            )
    flags = [~jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(updates)]
    bad = jnp.any(jnp.stack(flags)) if flags else jnp.asarray(False)
    known = ~bad
    if nonfinite == "zero":
        updates = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), updates)
        known = jnp.ones_like(bad)
    return Measurement(updates, *_scaled_norm(updates), bad, known)


def _shorten(measurement: Measurement, max_norm: Any, long: chex.Array) -> Any:
    """Return `g max_norm / ||g||` where `long`, else the update as it is."""
    length = measurement.length
    unit = power_of_two(-measurement.exponent, length.dtype)
    # A max_norm next to the largest number, and a norm of zero, would make the ratio infinite.
    ratio = jnp.minimum(max_norm / length, jnp.finfo(length.dtype).max)

    def short(g: Any) -> Any:
        wide = g.astype(jnp.promote_types(g.dtype, jnp.float32))
        scaled = wide * unit.astype(wide.dtype) * ratio.astype(wide.dtype)
        return jnp.where(long, scaled, wide).astype(g.dtype)

    return jax.tree.map(short, measurement.updates)


def global_norm(tree: Any) -> chex.Array:
    """Return the 2-norm over all leaves, in float32 at least; none of its squares overflows."""
    length, exponent = _scaled_norm(tree)
    return length * power_of_two(exponent, length.dtype)


def _scaled_norm(updates: Any) -> tuple[chex.Array, chex.Array]:
    """Return the global norm as `length * 2**exponent`, entries scaled to a largest of 1/2 to 4."""
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


def as_number(name: str, value: Any) -> float:
    """Return a number, also in a concrete array without axes, as the float that it is."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} must be a number that is known when compiling, got a traced value: make it a "
            "Python float outside of jax.jit"
        )
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hasattr(value, "dtype"):
        kinds = (jnp.floating, jnp.integer)
        real = jnp.ndim(value) == 0 and any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
    if not real:
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        plain = float(value)
    except OverflowError:  # the integer is not shown, since Python refuses to print a very long one
        raise ValueError(f"{name} must be finite, got an integer beyond every float") from None
    checks.check_number(name, plain)
    return plain


def above_zero(name: str, value: Any) -> float:
    """Return a number above 0, as a float."""
    plain = as_number(name, value)
    if plain <= 0:
        raise ValueError(f"{name} must be above 0, got {value}")
    return plain
