"""What each model is fed: the data given, what the model before it gives, or noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks, keys
from recurrax.flow.parts import parts
from recurrax.unrolling import unroll

if TYPE_CHECKING:
    from collections.abc import Iterator

    import chex

_EXAMPLES = 8  # of noise


class Model(NamedTuple):
    """One recurrent model of a source."""

    name: str  # its prefix; empty where there is no other
    cell: Any
    params: Any


class Feed(NamedTuple):
    """A model and what runs through it."""

    name: str
    cell: Any
    params: Any
    state: Any
    xs: chex.Array  # [T, B, I]
    mask: chex.Array | None  # bool [T, B]
    resets: chex.Array | None
    source: str  # where the inputs are from, in words


def feed_each(
    models: list[Model],
    xs: Any,
    state: Any,
    mask: Any,
    resets: Any,
    length: int,
    key: chex.PRNGKey | None,
) -> Iterator[Feed]:
    """Yield each model with its inputs.

    The first gets the data. A later one gets the outputs of the one before if they have as many
    features as it takes, else noise of the same T and B.
    """
    checks.check_positive_int("length", length)
    key = keys.own(keys.NOISE) if key is None else key
    checks.check_key(key)
    if state is not None and len(models) > 1:
        names = ", ".join(repr(model.name) for model in models)
        raise ValueError(f"state is that of one model, and there are {names}: pick one by prefix")
    if xs is None:
        for name, given in (("state", state), ("mask", mask), ("resets", resets)):
            if given is not None:
                raise ValueError(f"{name} belongs to data: give xs as well")
    else:
        xs, state, mask, resets = _one_batch_axis(xs, state, mask, resets)
    given, before, shape = xs, "the data given", (length, _EXAMPLES)
    for i, (name, cell, params) in enumerate(models):
        checks.check_finite("params", jax.tree.map(jnp.asarray, params), "Did training diverge?")
        layer, size = _first_layer(cell, params)
        if given is None or (i > 0 and given.shape[-1] != size):
            if size is None:
                raise ValueError(
                    "xs is needed: a cell of your own does not tell how many features it takes. "
                    "Give xs [T, B, I]"
                )
            given = jax.random.normal(jax.random.fold_in(key, i), (*shape, size))
            before = "unit normal noise"
        elif size is not None and given.shape[-1] != size:
            where = "/".join(word for word in (name, layer) if word)
            raise ValueError(
                f"xs has {given.shape[-1]} features, but {where} of {cell} takes {size}: expected "
                f"xs [T, B, {size}], got {given.shape}"
            )
        dtype = jnp.result_type(jax.tree.leaves(params)[0])
        if jnp.issubdtype(dtype, jnp.floating):
            given = given.astype(dtype)
        shape = given.shape[:2]
        yield Feed(name, cell, params, state, given, mask, resets, before)
        if i < len(models) - 1:
            ys = unroll(cell, params, None, given, mask=mask, resets=resets)[1]
            given, before = ys, f"the outputs of {name}"


def _one_batch_axis(xs: Any, state: Any, mask: Any, resets: Any) -> tuple[Any, Any, Any, Any]:
    """All arguments with one batch axis, `[T, I]` being one example."""
    checks.check_inputs_are_arrays(xs)
    if not hasattr(xs, "ndim") and not isinstance(xs, list):
        raise TypeError(f"xs must be one array [T, B, I] or [T, I], got {checks.kind(xs)}")
    xs = jnp.asarray(xs)
    if xs.ndim not in (2, 3):
        raise ValueError(f"xs must be [T, B, I], or [T, I] of one example, got shape {xs.shape}")
    checks.check_steps(xs)
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        xs = xs.astype(checks.default_float())
    if xs.ndim == 3:
        return xs, state, mask, resets
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state)
    mask, resets = (None if f is None else jnp.asarray(f)[:, None] for f in (mask, resets))
    return xs[:, None], state, mask, resets


def _first_layer(cell: Any, params: Any) -> tuple[str, int | None]:
    """The name of the layer that reads the inputs, and how many features it takes."""
    name, part = next(iter(parts(cell, params, None, None).items()))
    w_in = getattr(part.params, "w_in", None)
    return name, None if w_in is None else int(w_in.shape[0])


def fed_text(feeds: list[Feed]) -> str:
    """What was fed, to what where there are several."""
    words = []
    for feed in feeds:
        to = f" to {feed.name}" if len(feeds) > 1 else ""
        words.append(f"{feed.source} {list(feed.xs.shape)}{to}")
    if feeds[0].source == "unit normal noise":
        words[0] += ": no data was given"
    return "; ".join(words)
