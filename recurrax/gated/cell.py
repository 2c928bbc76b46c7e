"""Gated cells are made here, from an elementwise update and the sizes.

What such a cell computes, and what it can be run on, is in `recurrax.gated.step`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import Cell
from recurrax.gated.probe import check_pointwise, check_view
from recurrax.gated.step import GatedStep, Pointwise, check_has_weights, check_kinds
from recurrax.words import short

if TYPE_CHECKING:
    import chex

Initializer: TypeAlias = Callable[..., Any]

# One object each for the life of the process: cells compare by value, and `orthogonal()` called
# twice gives two functions that are not equal.
ORTHOGONAL = jax.nn.initializers.orthogonal()
LECUN_NORMAL = jax.nn.initializers.lecun_normal()
ZEROS = jax.nn.initializers.zeros


class GatedParams(NamedTuple):
    """The parameters of a gated cell, its G gates side by side on the last axis."""

    w_in: chex.Array  # [I, G*H]
    w_rec: chex.Array  # [H, G*H]
    b: chex.Array  # [G*H]
    unit: Any = None  # a pytree of [H] arrays, or None


@dataclasses.dataclass(frozen=True)
class GateView:
    """The gates of a cell as its reader knows them: what `flow.paths` takes statistics of.

    A pointwise function sees pre-activations; which squashed number is the forget gate, it alone
    knows. It says so here, and best takes its own gates from the same `values`.

    Args:
      names: of the gates, such as `("i", "f", "g", "o")`.
      kinds: `"sigmoid"` or `"tanh"` for each: at which ends it saturates, 0 and 1 or -1 and 1.
      values: `values(unit, z_in, z_rec)` with the arguments of the pointwise function, `z_in` and
        `z_rec [G, ..., H]`; returns one activation `[..., H]` for each name, as one array or a
        tuple.

    Raises:
      ValueError: if there is not one kind for each name, or a kind is unknown.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> from typing import NamedTuple
      >>> class MGUState(NamedTuple):
      ...     h: jax.Array
      >>> def gates(unit, z_in, z_rec):
      ...     f = jax.nn.sigmoid(z_in[0] + z_rec[0])
      ...     return f, jnp.tanh(z_in[1] + f * z_rec[1])
      >>> def mgu(unit, z_in, z_rec, state):
      ...     f, n = gates(unit, z_in, z_rec)
      ...     return MGUState((1 - f) * state.h + f * n)
      >>> view = rx.GateView(("f", "n"), ("sigmoid", "tanh"), gates)
      >>> sizes = dict(gates=2, input_size=3, hidden_size=8)
      >>> cell = rx.gated_cell(mgu, state=MGUState, view=view, **sizes)
      >>> cell.step.view.names
      ('f', 'n')
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    values: Callable[[Any, Any, Any], Any]

    def __post_init__(self) -> None:
        for argument, row in (("names", self.names), ("kinds", self.kinds)):
            # Tuples, since a step compares by value.
            if not isinstance(row, tuple) or not all(isinstance(word, str) for word in row):
                raise TypeError(f"{argument} must be a tuple of strings, got {row!r}")
        if len(self.names) != len(self.kinds):
            raise ValueError(
                f"kinds must be one for each of the names {self.names}, got {self.kinds}"
            )
        check_kinds(self.kinds)


@dataclasses.dataclass(frozen=True)
class GatedInit:
    """`init(key) -> params` of a gated cell: each gate's block drawn by its own initialiser."""

    input_size: int
    hidden_size: int
    input_init: tuple[Initializer, ...]
    recurrent_init: tuple[Initializer, ...]
    bias_init: tuple[Initializer, ...]
    unit_init: tuple[Any, tuple[Initializer, ...]]  # (treedef, initialisers), hashable
    dtype: Any
    params: type
    call: str = dataclasses.field(default="", compare=False, repr=False)  # as a cell is printed

    @property
    def gated_sizes(self) -> tuple[int, int]:
        """I and H, which a stack compares; the `init` of a cell of one's own tells neither."""
        return self.input_size, self.hidden_size

    def __call__(self, key: chex.PRNGKey) -> Any:
        checks.check_key(key)
        checks.check_dtype_enabled(self.dtype)
        size, hidden = self.input_size, self.hidden_size
        treedef, unit_inits = self.unit_init
        k_in, k_rec, k_b, k_unit = jax.random.split(key, 4)
        draw = partial(draw_blocks, dtype=self.dtype)
        return self.params(
            w_in=jnp.concatenate(draw(k_in, self.input_init, (size, hidden)), -1),
            w_rec=jnp.concatenate(draw(k_rec, self.recurrent_init, (hidden, hidden)), -1),
            b=jnp.concatenate(draw(k_b, self.bias_init, (hidden,)), -1),
            unit=jax.tree.unflatten(treedef, draw(k_unit, unit_inits, (hidden,))),
        )


def draw_blocks(
    key: Any, inits: tuple[Initializer, ...], shape: tuple[int, ...], dtype: Any
) -> list[Any]:
    """One block of this shape by each initialiser."""
    # At least float32: orthogonal and truncated draws fail or bias in half precision.
    wide = jnp.promote_types(dtype, jnp.float32)
    keys = jax.random.split(key, max(len(inits), 1))
    blocks = [init(k, shape, wide) for init, k in zip(inits, keys, strict=False)]
    for init, block in zip(inits, blocks, strict=True):
        checks.check_initialized(init, block, shape)
    return [block.astype(dtype) for block in blocks]


@dataclasses.dataclass(frozen=True)
class ZeroState:
    """`initial_state(params, batch_shape=()) -> state`: zeros in every field."""

    state: type

    def __call__(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Any:
        checks.check_batch_shape(batch_shape)
        check_has_weights(params)
        shape = (*batch_shape, params.w_rec.shape[0])
        # One array a field: a buffer shared by two fields cannot be donated.
        fields = self.state._fields  # type: ignore[attr-defined]
        return self.state(*(jnp.zeros(shape, params.w_rec.dtype) for _ in fields))


def gated_cell(
    pointwise: Pointwise,
    *,
    gates: int,
    state: type,
    input_size: int,
    hidden_size: int,
    unit_init: Any = None,
    recurrent_init: Initializer | Sequence[Initializer] = ORTHOGONAL,
    input_init: Initializer | Sequence[Initializer] = LECUN_NORMAL,
    bias_init: Initializer | Sequence[Initializer] = ZEROS,
    dtype: Any = None,
    params: type = GatedParams,
    slope: float | None = None,
    view: GateView | None = None,
) -> Cell:
    """Make a cell from an elementwise update of its hidden units.

    `z_in = x @ w_in + b`, `z_rec = h @ w_rec`, `state = pointwise(unit, z_in, z_rec, state)`,
    `y = state.h`. The pre-activations arrive as `[G, ..., H]`, the gate axis first, so that
    `r, z, n = z_in + z_rec` reads like the paper.

    Args:
      pointwise: `pointwise(unit, z_in, z_rec, state) -> state`, elementwise over the last axis:
        unit k of the new state may depend on unit k of the arguments alone. Checked here.
      gates: G, how many pre-activations each hidden unit has.
      state: a NamedTuple class with a field `h`; each field becomes an array `[..., H]`.
      input_size: I, the number of features of one x.
      hidden_size: H, the number of hidden units.
      unit_init: a pytree of initialisers, one for each per-unit parameter `[H]` that `pointwise`
        wants in `unit`; None for none.
      recurrent_init: initialiser of each gate's `[H, H]` block of `w_rec`, or one for each gate.
        Orthogonal by default, gate by gate.
      input_init: the same for the `[I, H]` blocks of `w_in`; LeCun normal by default.
      bias_init: the same for the `[H]` blocks of `b`; zeros by default.
      dtype: of the params and so of the state, which inputs must not widen: a bfloat16 cell takes
        bfloat16 inputs. By default JAX's default float when the cell is made: float64 under
        `jax_enable_x64`, else float32. Values are drawn in float32 at least, then cast.
      params: the NamedTuple class of the params, with fields `w_in`, `w_rec`, `b`, `unit`.
      slope: the largest 2-norm, over the fields of one unit's state, that `d state / d z_rec` of a
        gate can have, if the new state depends on the old one through `z_rec` alone; lets
        `rx.flow.bounds` bound the gradient.
      view: a `GateView` of the activations of its gates; lets `rx.flow.paths` tell how open and
        how saturated they are.

    Returns:
      A `Cell`. Cells made from equal arguments are equal.

    Raises:
      ValueError, TypeError: if a size is not a positive integer, `state` is not a NamedTuple
        class with a field `h`, or `pointwise` returns something else or mixes hidden units,
        or the view returns something else.

    Example:
      A minimal gated unit in five lines, ready for `rx.unroll` and `rx.flow`:

      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> from typing import NamedTuple
      >>> class MGUState(NamedTuple):
      ...     h: jax.Array
      >>> def mgu(unit, z_in, z_rec, state):
      ...     f = jax.nn.sigmoid(z_in[0] + z_rec[0])
      ...     return MGUState((1 - f) * state.h + f * jnp.tanh(z_in[1] + f * z_rec[1]))
      >>> cell = rx.gated_cell(mgu, gates=2, state=MGUState, input_size=3, hidden_size=8)
      >>> params = cell.init(jax.random.key(0))
      >>> state, ys = rx.unroll(cell, params, cell.initial_state(params), jnp.ones((20, 3)))
      >>> ys.shape
      (20, 8)
      >>> cell
      gated_cell(mgu, 3, 8, float32)
    """
    sizes = {"gates": gates, "input_size": input_size, "hidden_size": hidden_size}
    for name, size in sizes.items():
        checks.check_positive_int(name, size)
    checks.check_state_class(state)
    if slope is not None:
        checks.check_number("slope", slope)
        if slope < 0:
            raise ValueError(f"slope must not be negative, got {slope}")
    unit_leaves, unit_def = jax.tree.flatten(unit_init)
    if not all(callable(leaf) for leaf in unit_leaves):
        raise TypeError(
            f"unit_init must be a pytree of initialisers (key, shape, dtype) -> array, one for "
            f"each per-unit parameter, such as jax.nn.initializers.zeros; got {unit_leaves!r}"
        )
    init = GatedInit(
        input_size=int(input_size),
        hidden_size=int(hidden_size),
        input_init=per_gate("input_init", input_init, gates),
        recurrent_init=per_gate("recurrent_init", recurrent_init, gates),
        bias_init=per_gate("bias_init", bias_init, gates),
        unit_init=(unit_def, tuple(unit_leaves)),
        dtype=checks.floating_dtype(dtype),
        params=params,
    )
    step = GatedStep(pointwise, int(gates), state, slope, view)
    drawn = {"recurrent_init": recurrent_init, "input_init": input_init, "bias_init": bias_init}
    call = call_text(f"gated_cell({checks.named(pointwise)}, ", init, drawn)
    init = dataclasses.replace(init, call=call)
    check_pointwise(step, init.hidden_size, unit_def)
    if view is not None:
        check_view(step, init.hidden_size, unit_def)
    return Cell(init=init, initial_state=ZeroState(state), step=step)


def named_cell(
    name: str, step: GatedStep, params: type, input_size: int, hidden_size: int, **options: Any
) -> Cell:
    """A gated cell with this step and these options of `gated_cell`; it prints as a call of `name`.

    What is `printed`, a dict among the options, stands in the call in place of them or besides.
    """
    printed = options.pop("printed", {})
    cell = gated_cell(
        step.pointwise,
        gates=step.gates,
        state=step.state,
        input_size=input_size,
        hidden_size=hidden_size,
        params=params,
        slope=step.slope,
        view=step.view,
        **options,
    )
    arguments = {key: value for key, value in printed.items() if key not in _DEFAULTS}
    arguments |= {key: printed.get(key, options[key]) for key in _DEFAULTS if key in options}
    init: Any = cell.init
    call = call_text(f"{name}(", init, arguments)
    return dataclasses.replace(cell, init=dataclasses.replace(init, call=call))


def call_text(begin: str, init: Any, arguments: dict[str, Any]) -> str:
    """The call in words: sizes, dtype, and what is not as by default."""
    words = [str(init.input_size), str(init.hidden_size), str(jnp.dtype(init.dtype))]
    for name, value in arguments.items():
        if _DEFAULTS.get(name) != value:
            words.append(f"{name}={_written(value)}")
    return f"{begin}{', '.join(words)})"


def _written(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_written, value))})"
    if isinstance(value, float):
        return short(value)
    # What `orthogonal()` returns is called `orthogonal.<locals>.init`.
    name = getattr(value, "__qualname__", repr(value))
    return str(name).split(".<locals>")[0]


_DEFAULTS = {
    "recurrent_init": ORTHOGONAL,
    "input_init": LECUN_NORMAL,
    "bias_init": ZEROS,
    "projection_init": LECUN_NORMAL,
}


def per_gate(
    name: str, inits: Initializer | Sequence[Initializer], gates: int
) -> tuple[Initializer, ...]:
    row = (inits,) * gates if callable(inits) else inits
    good = isinstance(row, (tuple, list)) and len(row) == gates
    if not good or not all(callable(init) for init in row):
        raise ValueError(
            f"{name} must be one initialiser (key, shape, dtype) -> array, such as "
            f"jax.nn.initializers.orthogonal(), or one for each of the {gates} gates; got {inits!r}"
        )
    return tuple(row)
