"""The step of a gated cell: two affine maps and an elementwise update, and what it can be run on.

    z_in = x @ w_in + b        z_rec = h @ w_rec
    state = pointwise(unit, z_in, z_rec, state)

From this one description the library derives the step here, the exact Jacobian in
`recurrax.flow`, and the fast engines in `recurrax.unrolling`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax.numpy as jnp

from recurrax.checks import kind, named

if TYPE_CHECKING:
    import chex

    from recurrax.gated.cell import GateView

Pointwise: TypeAlias = Callable[[Any, Any, Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class GatedStep:
    """The step function of a gated cell: `(params, state, x) -> (state, y)`, with `y = state.h`.

    It is a value: two of them with the same fields are equal and compile once. Everything that
    can exploit the gated form (flow, the fast engines) recognises a step by this class.

    Args:
      pointwise: `pointwise(unit, z_in, z_rec, state) -> state`, elementwise over hidden units.
      gates: G, how many pre-activations each unit has.
      state: the NamedTuple class of the state.
      slope: the largest 2-norm, over the fields of one unit's state, that `d state / d z_rec` of a
        gate can have, for a cell whose new state depends on the old one through `z_rec` alone;
        None where no such bound holds.
      view: a `GateView` of the activations of its gates, or None.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.gru(3, 8)
      >>> cell.step == rx.cells.gru_step
      True
    """

    pointwise: Pointwise
    gates: int
    state: type
    slope: float | None = None
    view: GateView | None = None

    def __call__(self, params: Any, state: Any, x: chex.Array) -> tuple[Any, Any]:
        check_gated_inputs(self, params, state, x, name="x", timed=False)
        state = self.pointwise(params.unit, *self.pre_activations(params, state.h, x), state)
        check_pointwise_result(self, state)
        return state, state.h

    def __repr__(self) -> str:
        """Its name."""
        return getattr(self, "__name__", None) or named(self)

    def call_text(self, init: Any) -> str:
        """A cell with this step as the call that makes it, for `Cell` to print."""
        return getattr(init, "call", "") or f"Cell(step={self!r})"

    def documented(self, name: str, doc: str) -> GatedStep:
        """The same step with a name and a docstring, as a module-level function has them."""
        step = dataclasses.replace(self)
        object.__setattr__(step, "__name__", name)
        object.__setattr__(step, "__doc__", doc)
        return step

    def check_inputs(self, params: Any, state: Any, xs: Any) -> None:
        """Raise if a whole sequence does not fit; called once, before time is unrolled."""
        check_gated_inputs(self, params, state, xs, name="xs", timed=True)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields of the state, one of which is h."""
        names: tuple[str, ...] = self.state._fields  # type: ignore[attr-defined]
        return names

    @property
    def h_field(self) -> int:
        """Which field of the state is h."""
        return self.fields.index("h")

    def split(self, z: chex.Array) -> chex.Array:
        """`[..., G*H]` to `[G, ..., H]`, as a pointwise function wants it."""
        return jnp.moveaxis(z.reshape(*z.shape[:-1], self.gates, z.shape[-1] // self.gates), -2, 0)

    def input_share(self, params: Any, x: chex.Array) -> chex.Array:
        """What the input adds to the pre-activations, `[..., G*H]`."""
        share: chex.Array = x @ params.w_in + params.b
        return share

    def pre_activations(
        self, params: Any, h: chex.Array, x: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        """`z_in` and `z_rec [G, ..., H]`, given h before the step and the input."""
        return self.split(self.input_share(params, x)), self.split(h @ params.w_rec)


def step_doc(cell: str, params: str, state: str, equation: str, source: str) -> str:
    """The docstring of a cell's step, from what differs between the cells of `rx.cells`."""
    return _STEP_DOC.format(cell=cell, params=params, state=state, equation=equation, source=source)


_STEP_DOC = """One step of `rx.cells.{cell}`.

{equation}

Args:
  params: {params}.
  state: {state} `[..., H]`.
  x: the input `[..., I]`, floating point.

Returns:
  The new state and the output, which is h.

Raises:
  ValueError, TypeError: if shapes or dtypes do not fit.

Example:
  >>> import jax, jax.numpy as jnp, recurrax as rx
  >>> cell = rx.cells.{cell}(3, 8)
  >>> params = cell.init(jax.random.key(0))
  >>> state, y = rx.cells.{cell}_step(params, cell.initial_state(params), jnp.ones(3))
  >>> y.shape, bool((y == state.h).all())
  ((8,), True)

Source: {source}.
"""

_HALF = {"sigmoid": 0.5, "tanh": 1.0}


def gate_activations(z: chex.Array, *kinds: str) -> chex.Array:
    """Apply a sigmoid or a tanh to each gate, all of them through one tanh.

    `sigmoid(z) = tanh(z / 2) / 2 + 1 / 2`, so scaling each gate by a half or by one before and
    after a single tanh gives either. One transcendental over `[G, ..., H]` keeps the compiled
    loop vectorised, where a separate sigmoid or tanh of each slice does not. Such a sigmoid is
    right to the rounding of 1, not of itself: in float32 one below 6e-8 is 0, a closed gate.

    Args:
      z: pre-activations `[G, ..., H]`, the gate axis first, floating point.
      *kinds: `"sigmoid"` or `"tanh"`, one for each of the G gates.

    Returns:
      The activations `[G, ..., H]`, to be unpacked gate by gate.

    Raises:
      ValueError: if there is not one kind for each gate, or a kind is unknown.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> z = jnp.zeros((2, 3))
      >>> i, g = rx.gate_activations(z, "sigmoid", "tanh")
      >>> float(i[0]), float(g[0])
      (0.5, 0.0)
    """
    check_kinds(kinds)
    if jnp.ndim(z) == 0 or z.shape[0] != len(kinds):
        raise ValueError(
            f"z must be [G, ..., H] with one kind for each gate: got {len(kinds)} kinds "
            f"for shape {jnp.shape(z)}. The gate axis comes first."
        )
    half = jnp.asarray([_HALF[kind] for kind in kinds], z.dtype)
    half = half.reshape((len(kinds),) + (1,) * (z.ndim - 1))
    return jnp.tanh(z * half) * half + (1 - half)


def check_kinds(kinds: tuple[str, ...]) -> None:
    unknown = [kind for kind in kinds if kind not in _HALF]
    if unknown:
        raise ValueError(f'kinds must be "sigmoid" or "tanh", got {unknown[0]!r}')


def check_gated_inputs(
    step: Any, params: Any, state: Any, xs: Any, *, name: str, timed: bool
) -> None:
    """`xs [T, *batch, I]` (timed) or `x [*batch, I]`, the state `[*batch, H]`, and the params."""
    size, hidden = check_gated_params(step, params)
    widths = dict.fromkeys(step.fields, ("H", hidden))
    check_state_and_inputs(step, widths, size, state, xs, name=name, timed=timed)


def check_state_and_inputs(
    step: Any,
    widths: dict[str, tuple[str, int]],
    size: int,
    state: Any,
    xs: Any,
    *,
    name: str,
    timed: bool,
) -> None:
    """As above, of params that fit: each field of the state as wide as `widths` says."""
    if not isinstance(state, step.state):
        raise TypeError(
            f"state must be a {step.state.__name__}, as cell.initial_state(params, batch_shape) "
            f"returns; got {kind(state)}"
        )
    batch = jnp.shape(state.h)[:-1]
    for (field, (letter, width)), leaf in zip(widths.items(), state, strict=True):
        if jnp.shape(leaf) != (*batch, width):
            raise ValueError(
                f"state.{field} has shape {jnp.shape(leaf)}, expected {(*batch, width)}: the "
                f"last axis is {letter} = {width}, and all fields share one batch shape"
            )
    if not hasattr(xs, "shape") or not hasattr(xs, "dtype"):
        raise TypeError(f"{name} must be one array, got {type(xs).__name__}: use jnp.asarray")
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(
            f"{name} has dtype {xs.dtype}, expected floating point, since it is multiplied by "
            f"w_in. Cast numbers with {name}.astype(jnp.float32); turn token ids into rows with "
            f"jax.nn.one_hot({name}, {size})."
        )
    shape = tuple(xs.shape)
    if shape != (shape[:1] if timed else ()) + (*batch, size):
        _raise_wrong_shape(name, shape, size, batch, timed)


def _raise_wrong_shape(
    name: str, shape: tuple[int, ...], size: int, batch: tuple[int, ...], timed: bool
) -> None:
    layout = f"[{'T, ' if timed else ''}{'B, ' * len(batch)}I]"
    head = f"{name} has shape {shape}, expected {layout} with "
    if size == 1 and shape[-1:] != (1,):
        raise ValueError(
            f"{head}I = 1 feature on the last axis. If that axis is missing, add it: "
            f"{name}[..., None]."
        )
    if shape[-1:] != (size,):
        raise ValueError(
            f"{head}I = {size} features on the last axis. Was the cell built for another "
            f"input_size? params.w_in has {size} rows."
        )
    if timed and len(shape) == len(batch) + 2 == 3 and shape[0] == batch[0]:
        raise ValueError(
            f"{head}B = {batch[0]} from the state. {name} has its batch axis first? recurrax "
            f"wants [T, B, I]: use jnp.swapaxes({name}, 0, 1)."
        )
    came = shape[1:-1] if timed else shape[:-1]
    raise ValueError(
        f"{head}batch shape {batch} from the state, but it has batch shape {came}. Make the "
        f"state with cell.initial_state(params, {came})."
    )


def check_has_weights(params: Any) -> None:
    weights = (getattr(params, name, None) for name in ("w_in", "w_rec"))
    if any(getattr(leaf, "ndim", None) != 2 for leaf in weights):
        raise TypeError(
            f"params must be the NamedTuple that cell.init(key) returns, with w_in, w_rec, b and "
            f"unit; got {type(params).__name__}"
        )


def check_gated_params(step: GatedStep, params: Any) -> tuple[int, int]:
    """Raise if the params of a gated cell do not fit together; return I and H."""
    check_has_weights(params)
    gates, size, hidden = step.gates, params.w_in.shape[0], params.w_rec.shape[0]
    shapes = {"w_in": (size, gates * hidden), "w_rec": (hidden, gates * hidden)}
    words = f"I = {size}, H = {hidden} and {gates} gate{'s' if gates > 1 else ''}"
    check_leaves(params, shapes | {"b": (gates * hidden,)}, words)
    return size, hidden


def check_leaves(params: Any, shapes: dict[str, tuple[int, ...]], words: str) -> None:
    """Raise unless these fields of the params are floating point and of these shapes."""
    for field, shape in shapes.items():
        leaf = getattr(params, field)
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"params.{field} has dtype {jnp.result_type(leaf)}, expected floating point, since "
                "a gradient is to flow through it: params come from cell.init(key)"
            )
        if jnp.shape(leaf) != shape:
            raise ValueError(
                f"params.{field} has shape {jnp.shape(leaf)}, expected {shape} for {words}. Are "
                "these the params of another cell?"
            )


def check_pointwise_result(step: GatedStep, state: Any) -> None:
    if not isinstance(state, step.state):
        raise TypeError(
            f"{named(step.pointwise)} must return the new state, a {step.state.__name__}; it "
            f"returned {type(state).__name__}"
        )
