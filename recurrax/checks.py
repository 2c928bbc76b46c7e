"""What is checked at trace time: each message names the argument, what came, and what to do.

Checks look at shapes and dtypes only, so they cost nothing when the compiled function runs;
`check_finite` alone looks at values.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.cell import StepFn


def leaf_name(root: str, path: tuple[Any, ...]) -> str:
    """`state.h`, `state[0].c`: the name of a leaf as its user would write it."""
    return root + jax.tree_util.keystr(path)


def show(tree: Any, leaf_text: Callable[[Any], str] | None = None) -> str:
    """A pytree with its leaves replaced by a text, or by their types: `GRUState(h=float32[8])`."""

    def leaf_type(leaf: Any) -> str:
        if not hasattr(leaf, "dtype"):
            return type(leaf).__name__
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"

    return repr(jax.tree.map(lambda leaf: _Word((leaf_text or leaf_type)(leaf)), tree))


class _Word(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def kind(value: Any) -> str:
    """What came in the place of something else: an array by its type, all else by its class."""
    return show(value) if hasattr(value, "dtype") else type(value).__name__


def check_positive_int(name: str, value: Any) -> None:
    _check_int(name, value, 1, "a positive integer")


def check_count(name: str, value: Any) -> None:
    _check_int(name, value, 0, "an integer of 0 or more")


def _check_int(name: str, value: Any, least: int, words: str) -> None:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} must be {words} that is known when compiling, got a traced value. "
            f"Under jax.jit make it static: jax.jit(..., static_argnames={name!r})."
        )
    try:
        good = operator.index(value) >= least and not isinstance(value, bool)
    except TypeError:
        raise TypeError(f"{name} must be {words}, got {value!r}") from None
    if not good:
        raise ValueError(f"{name} must be {words}, got {value!r}")


def check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")


def check_fraction(name: str, value: Any) -> None:
    check_number(name, value)
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def default_float() -> Any:
    """JAX's float where none is named: float64 under `jax_enable_x64`, else float32.

    To be asked when an array or a cell is made, never at import: the user may switch it later.
    """
    return jnp.result_type(float)


def at_least(array: Any, float_: Any) -> Any:
    """Numbers as floats of a dtype, or of their own where that is as wide.

    By width, since `jnp.promote_types` refuses two dtypes where promotion is strict.
    """
    own = array.dtype
    wide = jnp.issubdtype(own, jnp.floating) and jnp.finfo(own).bits >= jnp.finfo(float_).bits
    return array if wide else array.astype(float_)


def floating_dtype(dtype: Any) -> Any:
    """A floating-point dtype as `dtype=` names it; JAX's default float for None and `float`."""
    try:
        dtype = default_float() if dtype is None or dtype is float else jnp.dtype(dtype)
    except TypeError:
        raise TypeError(
            f"dtype must be a floating-point type such as jnp.float32, got {dtype!r}"
        ) from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be a floating-point type such as jnp.float32, got {dtype}")
    return dtype


def check_key(key: Any) -> None:
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and not (dtype == jnp.uint32 and jnp.shape(key)[-1:] == (2,)):
        raise TypeError(f"key must be a JAX random key such as jax.random.key(0), got {key!r}")


def check_dtype_enabled(dtype: Any) -> None:
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            f"dtype {dtype} is switched off in JAX. Switch it on before the first array is made "
            'with jax.config.update("jax_enable_x64", True), or build the cell with '
            "dtype=jnp.float32."
        )


def check_batch_shape(batch_shape: Any) -> None:
    if not isinstance(batch_shape, tuple) or not all(isinstance(b, int) for b in batch_shape):
        raise TypeError(
            f"batch_shape must be a tuple of integers such as (32,), or () for one sequence; "
            f"got {batch_shape!r}"
        )


def check_state_class(state: Any) -> None:
    fields = getattr(state, "_fields", None)
    if not isinstance(state, type) or fields is None:
        raise TypeError(f"state must be a NamedTuple class, got {state!r}")
    if "h" not in fields:
        raise ValueError(
            f"state must have a field h, the output that the recurrent product reads; "
            f"{state.__name__} has {', '.join(fields)}"
        )


def check_initialized(init: Any, block: Any, shape: tuple[int, ...]) -> None:
    if getattr(block, "shape", None) != shape:
        raise ValueError(
            f"initialiser {init!r} returned {show(block)} where an array of shape {shape} was asked"
            " for. An initialiser takes (key, shape, dtype), as jax.nn.initializers do."
        )


def check_step(step: StepFn, params: Any, state: Any, x: Any) -> None:
    """Trace one step abstractly: it must return `(state, y)` with the state as it was."""
    result = jax.eval_shape(step, params, state, x)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"{named(step)} must return a pair (state, y), got {show(result)}. Return the state "
            "twice if it has no other output."
        )
    before, after = jax.eval_shape(lambda s: jax.tree.map(jnp.asarray, s), state), result[0]
    if not _same_structure(before, after):
        raise TypeError(
            f"{named(step)} returned a state of another structure: it was given {show(before)} and "
            f"returned {show(after)}. The new state comes first, and looks like the old one."
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        name = leaf_name("state", path)
        if old.shape != new.shape:
            raise ValueError(
                f"{named(step)} changed the shape of {name} from {old.shape} to {new.shape}. A "
                "state keeps its shape through time: did x or the initial state miss a batch axis?"
            )
        if old.dtype != new.dtype:
            raise TypeError(
                f"{named(step)} changed the dtype of {name} from {old.dtype} to {new.dtype}. "
                f"{_cast(old.dtype, {'params': params, 'xs': x})} from a state of {new.dtype}, or "
                "cast the new state in the step."
            )


def _same_structure(*trees: Any) -> bool:
    structures: list[Any] = [jax.tree.structure(tree) for tree in trees]
    return bool(structures[0] == structures[1])


def _cast(dtype: Any, given: dict[str, Any]) -> str:
    """What to cast so that a floating-point state keeps its dtype; nothing, if nothing differs."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return "Start"  # inputs are not to become integers for its sake
    differ = []
    for name, tree in given.items():
        found = {leaf.dtype for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")}
        other = [str(d) for d in found if jnp.issubdtype(d, jnp.inexact) and d != dtype]
        differ += [f"{name} from {' and '.join(sorted(other))}"] if other else []
    return f"Cast {' and '.join(differ)} to {dtype}, start" if differ else "Start"


def named(function: Any) -> str:
    function = getattr(function, "pointwise", function)
    return getattr(function, "__name__", None) or type(function).__name__


def check_arrays(name: str, tree: Any) -> None:
    """Every leaf is an array, or a number that becomes one."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array):
            continue
        try:
            jnp.asarray(leaf)
        except (TypeError, ValueError, OverflowError):
            came = kind(leaf) if hasattr(leaf, "dtype") else repr(leaf)
            raise TypeError(
                f"{leaf_name(name, path)} must be an array of numbers, got {came}"
            ) from None


def check_inputs_are_arrays(xs: Any) -> None:
    """As `check_arrays`, and nested lists are not taken apart number by number."""
    leaves = jax.tree.leaves(xs)
    numbers = (bool, int, float, complex)
    if isinstance(xs, (list, tuple)) and leaves and all(type(leaf) in numbers for leaf in leaves):
        raise TypeError(
            f"xs must be an array [T, ...], got a {type(xs).__name__} of numbers: pass "
            "jnp.asarray(xs)"
        )
    check_arrays("xs", xs)


def check_time(xs: Any) -> int:
    """The length T of a sequence, from every leaf of xs; 0 for a sequence of no steps."""
    leaves = jax.tree_util.tree_leaves_with_path(xs)
    if not leaves:
        raise ValueError(
            f"xs has no arrays, so its length T is unknown: expected [T, ...], got {show(xs)}. For "
            "a step function that reads no input pass jnp.zeros((T, 0))."
        )
    lengths = {}
    for path, leaf in leaves:
        if jnp.ndim(leaf) == 0:
            raise ValueError(f"{leaf_name('xs', path)} is a scalar; expected [T, ...], time first")
        lengths[leaf_name("xs", path)] = jnp.shape(leaf)[0]
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the leaves of xs disagree about T: {lengths}. Time is the first axis.")
    return next(iter(lengths.values()))


def check_steps(xs: Any) -> int:
    """As `check_time`, of a sequence about which there is something to ask."""
    length = check_time(xs)
    if length == 0:
        raise ValueError("xs has no time steps (T = 0); expected T >= 1.")
    return length


def check_flags(name: str, flags: Any, length: int, state: Any) -> None:
    """A mask or resets: bool `[T, *batch]`, the batch leading every leaf of the state."""
    if not hasattr(flags, "dtype") or flags.dtype != jnp.bool_:
        kind = getattr(flags, "dtype", type(flags).__name__)
        raise TypeError(
            f"{name} must be a bool array [T, B], got {kind}. Lengths become a mask with "
            f"rx.length_mask(lengths, T); numbers with {name}.astype(bool)."
        )
    shape = tuple(flags.shape)
    if not shape or shape[0] != length:
        first = shape[1:2] == (length,)
        raise ValueError(
            f"{name} has shape {shape}, expected [T, B] with T = {length}, as in xs."
            + (f" Its batch axis is first? Use jnp.swapaxes({name}, 0, 1)." if first else "")
        )
    batch = shape[1:]
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.shape(leaf)[: len(batch)] != batch:
            raise ValueError(
                f"{name} has shape {shape}, so the batch shape is {batch}, but "
                f"{leaf_name('state', path)} has shape {jnp.shape(leaf)}"
            )


def check_reset_state(state: Any, start: Any) -> None:
    """What a reset returns to must be exchangeable with the state that is carried."""
    trees = (state, start)
    kinds = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in trees]
    if not _same_structure(state, start) or kinds[0] != kinds[1]:
        raise ValueError(
            f"resets returns to cell.initial_state(params, batch_shape), {show(start)}, but the "
            f"state given is {show(state)}. Start from that state, or one like it."
        )


def check_finite(name: str, tree: Any, remedy: str) -> None:
    """Refuse NaN and infinity in concrete arrays; a traced value cannot be looked at."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.core.Tracer) or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        value = np.asarray(leaf)  # not jnp: inside jit, that would trace what is concrete
        bad = ~np.isfinite(value)
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"{leaf_name(name, path)} is not finite: {value[where]} at index {where}, "
                f"{int(bad.sum())} such entr{'y' if bad.sum() == 1 else 'ies'} in all. {remedy}"
            )
