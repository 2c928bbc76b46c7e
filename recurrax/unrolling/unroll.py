"""`unroll` and `unroll_states`: check, pick an engine, run; and the table of engines.

Every engine takes and returns what `recurrax.unrolling.scan.scan_engine` does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import Cell, StepFn, as_step
from recurrax.cells.bidirectional import Bidirectional, Directions, check_pair
from recurrax.cells.combined import check_entries
from recurrax.cells.stack import BidirectionalStack, BothWays
from recurrax.gated.step import GatedStep
from recurrax.unrolling.batch import check_rows
from recurrax.unrolling.gated.engine import check_gated, hoisted_engine, layers_of
from recurrax.unrolling.kernel import choose
from recurrax.unrolling.kernel.device_passes import Kernel
from recurrax.unrolling.scan import Inputs, scan_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


def unroll(
    cell: Cell | StepFn | BothWays,
    params: Any,
    state: Any,
    xs: Any,
    *,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
    reverse: bool = False,
    remat: int | None = None,
    engine: str = "auto",
) -> tuple[Any, Any]:
    """Run a cell over a sequence: `s_t, y_t = step(params, s_{t-1}, x_t)` for t = 1 ... T.

    Compiled on first use and again only for a new step, new shapes or new options. Works under
    every JAX transformation.

    Args:
      cell: a `Cell`, a bare step function `(params, state, x) -> (state, y)`, or what
        `rx.bidirectional` makes, or `rx.stack` of such, run layer by layer.
      params: the cell's params, from `cell.init(key)`.
      state: the state before the first step, from `cell.initial_state(params, batch_shape)`;
        None stands for that initial state, where the cell is a `Cell` and xs one array.
      xs: the inputs `[T, *batch, I]`, or a pytree of arrays that each lead with T. T may be 0:
        the state comes back as it was, and the outputs are `[0, *batch, ...]`.
      mask: bool `[T, *batch]`; where False the state is carried over unchanged and y is zero,
        whatever stands in xs there. Any pattern.
      resets: bool `[T, *batch]`; where True the state is set to the cell's initial state before
        that step (also where the mask is False).
      reverse: run from the last input to the first. Outputs stay in the order of the inputs.
      remat: keep one state every `remat` steps for the backward pass and recompute the rest.
      engine: `"scan"`, the reference, runs any step. `"hoisted"` runs gated cells, and stacks and
        residuals of them, faster, and with less memory under `jax.grad`. `"kernel"` runs the
        same ones on an NVIDIA GPU in one launch for the whole sequence, in float32, bfloat16 or
        float16, with sums and state in float32 within the kernel, up to the H whose recurrent
        weights fit in a block's shared memory; on any other device the same computation runs as
        a plain scan. Its float32 products are accurate, and tf32 under
        `jax.default_matmul_precision("tensorfloat32")`. `"auto"` takes the fastest one that is
        known to be right, for every layer that is gated. They give the same numbers to rounding.

    Returns:
      The final state, and the outputs `[T, *batch, ...]`.

    Raises:
      ValueError, TypeError: when traced, if shapes, dtypes or structures do not fit; the message
        says which, and what to do.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.lstm(3, 8)
      >>> params = cell.init(jax.random.key(0))
      >>> xs = jnp.ones((10, 4, 3))  # [T, B, I]
      >>> mask = rx.length_mask(jnp.array([10, 7, 3, 0]), 10)
      >>> state, ys = rx.unroll(cell, params, cell.initial_state(params, (4,)), xs, mask=mask)
      >>> ys.shape, state.c.shape, float(abs(ys[3, 2]).sum())
      ((10, 4, 8), (4, 8), 0.0)
    """
    options: dict[str, Any] = {"mask": mask, "resets": resets, "reverse": reverse}
    options |= {"remat": remat, "engine": engine}
    if isinstance(cell, BidirectionalStack):
        layers = _layers(unroll, cell, params, state, xs, options)
        return tuple(final for final, _ in layers), layers[-1][1]
    if isinstance(cell, Bidirectional):
        ahead, back = _directions(unroll, cell, params, state, xs, options)
        return Directions(ahead[0], back[0]), cell.join(ahead[1], back[1])
    return _unroll(cell, params, state, xs, False, **options)


def unroll_states(
    cell: Cell | StepFn | BothWays,
    params: Any,
    state: Any,
    xs: Any,
    *,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
    reverse: bool = False,
    remat: int | None = None,
    engine: str = "auto",
) -> Any:
    """The whole state after every step: s_1 ... s_T.

    Takes what `rx.unroll` takes. Where the mask is False the carried state is repeated.

    Args:
      cell: a `Cell`, a bare step function, or what `rx.bidirectional` or `rx.stack` makes.
      params: the cell's params.
      state: the state before the first step, or None for the cell's initial state.
      xs: the inputs `[T, *batch, I]`, or a pytree of arrays that each lead with T, which may be 0.
      mask: bool `[T, *batch]`, as in `rx.unroll`.
      resets: bool `[T, *batch]`, as in `rx.unroll`.
      reverse: run from the last input to the first.
      remat: keep one state every `remat` steps for the backward pass.
      engine: `"auto"`, `"scan"`, `"hoisted"` or `"kernel"`, as in `rx.unroll`.

    Returns:
      The states, each leaf `[T, *batch, ...]`.

    Raises:
      ValueError, TypeError: as `rx.unroll` does.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.lstm(3, 8)
      >>> params = cell.init(jax.random.key(0))
      >>> states = rx.unroll_states(cell, params, cell.initial_state(params), jnp.ones((10, 3)))
      >>> states.h.shape, states.c.shape
      ((10, 8), (10, 8))
    """
    options: dict[str, Any] = {"mask": mask, "resets": resets, "reverse": reverse}
    options |= {"remat": remat, "engine": engine}
    if isinstance(cell, BidirectionalStack):
        return tuple(_layers(unroll_states, cell, params, state, xs, options))
    if isinstance(cell, Bidirectional):
        return _directions(unroll_states, cell, params, state, xs, options)
    return _unroll(cell, params, state, xs, True, **options)[1]


def _layers(
    run: Any, cell: BidirectionalStack, params: Any, state: Any, xs: Any, options: Any
) -> list[Any]:
    """What `unroll` or `unroll_states` gives of each layer."""
    count = len(cell.layers)
    check_entries("params", params, count)
    if state is not None:
        check_entries("state", state, count)
    found = []
    for i, layer in enumerate(cell.layers):
        given = layer, params[i], None if state is None else state[i], xs
        found.append(run(*given, **options))
        if i < count - 1:  # states alone do not tell what the next layer reads
            result = found[-1] if run is unroll else unroll(*given, **options)
            xs = result[1]
    return found


def _directions(
    run: Any, cell: Bidirectional, params: Any, state: Any, xs: Any, options: Any
) -> Directions:
    """What `unroll` or `unroll_states` gives of each direction."""
    check_pair("params", params)
    if state is not None:
        check_pair("state", state)
    ahead, back = (None, None) if state is None else state
    first = run(cell.forward, params[0], ahead, xs, **options)
    options = options | {"reverse": not options["reverse"]}
    return Directions(first, run(cell.backward, params[1], back, xs, **options))


def _unroll(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    want_states: bool,
    *,
    mask: Any,
    resets: Any,
    reverse: bool,
    remat: int | None,
    engine: str,
) -> tuple[Any, Any]:
    step = as_step(cell)
    checks.check_choice("engine", engine, tuple(ENGINES))
    if engine in ("hoisted", "kernel"):
        check_gated(step, engine)
    if not isinstance(reverse, bool):
        raise TypeError(f"reverse must be True or False, got {reverse!r}")
    if remat is not None:
        checks.check_positive_int("remat", remat)
    state, xs = prepare(cell, params, state, xs)
    length = checks.check_time(xs)
    start_of = check_mask_and_resets(cell, params, state, length, mask, resets)
    arrays = (params, state, Inputs(xs, mask, resets))
    found: tuple[Any, Any]
    if length == 0:  # there is no loop to make fast, and nothing to recompute
        with jax.disable_jit(False):  # which refuses a scan of no steps
            found = _run("scan", step, start_of, want_states, reverse, None, *arrays)
        return found
    every = None if remat is None else min(int(remat), length)
    found = _run(engine, step, start_of, want_states, reverse, every, *arrays)
    return found


def prepare(cell: Cell | StepFn, params: Any, state: Any, xs: Any) -> tuple[Any, Any]:
    """Check a step against what it is to be run on; the state and the inputs as arrays."""
    step = as_step(cell)
    checks.check_inputs_are_arrays(xs)
    checks.check_arrays("params", params)
    checks.check_arrays("state", state)
    xs = jax.tree.map(jnp.asarray, xs)
    checks.check_time(xs)
    if state is None:
        if not isinstance(cell, Cell):
            raise TypeError(
                "state=None stands for the initial state of a rx.Cell; a bare step function has "
                "none. Pass the state before the first step, or () if there is nothing to carry."
            )
        if not hasattr(xs, "ndim") or xs.ndim < 2:
            column = " (xs[:, None] for one feature a step)" if hasattr(xs, "ndim") else ""
            raise ValueError(
                "state=None needs xs of shape [T, *batch, I] to read the batch shape from, got "
                f"{checks.show(xs)}: pass xs of that shape{column}, or the state, "
                "cell.initial_state(params, batch_shape)"
            )
        state = cell.initial_state(params, tuple(xs.shape[1:-1]))
    if hasattr(step, "check_inputs"):
        step.check_inputs(params, state, xs)
    state = jax.tree.map(jnp.asarray, state)
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
    checks.check_step(step, params, state, first)
    return state, xs


def check_mask_and_resets(
    cell: Cell | StepFn, params: Any, state: Any, length: int, mask: Any, resets: Any
) -> Callable[..., Any] | None:
    """Check both against a prepared state; what returns the state that a reset goes back to."""
    by_row = {"mask": mask, "resets": resets}
    by_row = {name: flags for name, flags in by_row.items() if flags is not None}
    for name, flags in by_row.items():
        checks.check_flags(name, flags, length, state)
    if by_row and isinstance(cell, Cell):
        widest = max(by_row, key=lambda name: by_row[name].ndim)
        check_rows(widest, cell, params, state, tuple(by_row[widest].shape[1:]))
    if resets is None:
        return None
    if not isinstance(cell, Cell):
        raise TypeError(
            "resets needs a rx.Cell, whose initial_state says what to reset to; got a bare "
            "step function. Wrap it: rx.Cell(init=..., initial_state=..., step=...)."
        )
    start_of = cell.initial_state
    start = jax.eval_shape(lambda p: start_of(p, tuple(resets.shape[1:])), params)
    checks.check_reset_state(state, start)
    return start_of


# --- the engines ---------------------------------------------------------------------------------

# Below this many steps there is little to hoist, and the plain scan compiles faster.
SHORT = 4


def auto_engine(step: StepFn, *args: Any, **options: Any) -> tuple[Any, Any]:
    """The fastest engine that is known to be right, for each layer."""
    inputs: Inputs = args[-1]
    if not prefers_hoisted(step, jax.tree.leaves(inputs.xs)[0].shape[0]):
        return scan_engine(step, *args, **options)
    kernel = partial(choose.where_faster, Kernel) if choose.MEASURED else None
    return hoisted_engine(step, *args, **options, strict=False, kernel=kernel)


def kernel_engine(*args: Any, interpret: bool = False, **options: Any) -> tuple[Any, Any]:
    """Every layer by the GPU kernel; `interpret` runs it by Pallas's interpreter on any device."""
    kernel = partial(choose.required, Kernel, interpret=interpret)
    return hoisted_engine(*args, **options, kernel=kernel)


def prefers_hoisted(step: StepFn, length: int) -> bool:
    """Whether the hoisted engine is the faster one: where a layer is gated and there is a loop."""
    long = not isinstance(length, int) or length >= SHORT
    return long and any(isinstance(layer, GatedStep) for _, layer in layers_of(step))


ENGINES: dict[str, Callable[..., tuple[Any, Any]]] = {
    "auto": auto_engine,
    "scan": scan_engine,
    "hoisted": hoisted_engine,
    "kernel": kernel_engine,
}


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _run(
    engine: str,
    step: StepFn,
    initial_state: Any,
    want_states: bool,
    reverse: bool,
    remat: int | None,
    params: Any,
    state: Any,
    inputs: Inputs,
) -> tuple[Any, Any]:
    start = None
    if initial_state is not None and inputs.resets is not None:
        start = initial_state(params, tuple(inputs.resets.shape[1:]))
    run = ENGINES[engine]
    return run(step, want_states, params, state, start, inputs, reverse=reverse, remat=remat)
