"""What is trained: a cell unrolled over time, and a linear readout of its output."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import Cell
from recurrax.cells.stack import BothWays
from recurrax.flow.parts import Part
from recurrax.tasks.task import Task
from recurrax.unrolling.unroll import unroll

if TYPE_CHECKING:
    import chex

    from recurrax.tasks.batch import Batch


class NetworkParams(NamedTuple):
    """Of a `Network`."""

    cell: Any  # the cell's params
    w_out: chex.Array  # [H, O]
    b_out: chex.Array  # [O]


@dataclasses.dataclass(frozen=True)
class Network:
    """A cell and a linear readout, compared by value as a cell is. Made by `rx.train.network`.

    Example:
      >>> import recurrax as rx
      >>> rx.train.network(rx.cells.gru(3, 8), 2) == rx.train.network(rx.cells.gru(3, 8), 2)
      True
    """

    cell: Cell
    input_size: int
    output_size: int
    remat: int | None = None

    def init(self, key: chex.PRNGKey) -> NetworkParams:
        """The cell's params, w_out of variance 1/H, and b_out of zeros."""
        checks.check_key(key)
        cell_key, out_key = jax.random.split(key)
        params = self.cell.init(cell_key)
        kinds = [leaf.dtype for leaf in jax.tree.leaves(params)]
        floating = [kind for kind in kinds if jnp.issubdtype(kind, jnp.floating)]
        dtype = floating[0] if floating else checks.default_float()
        x = jax.ShapeDtypeStruct((self.input_size,), dtype)
        state = jax.eval_shape(self.cell.initial_state, params)
        y: Any = jax.eval_shape(self.cell.step, params, state, x)[1]
        if getattr(y, "ndim", None) != 1:
            raise ValueError(
                f"the output of the cell must be one array [H] for one example, got "
                f"{checks.show(y)}. Wrap the cell in one whose step returns such a y."
            )
        wide = jnp.promote_types(y.dtype, jnp.float32)
        shape = (y.shape[-1], self.output_size)
        w_out = jax.nn.initializers.lecun_normal()(out_key, shape, wide)
        return NetworkParams(params, w_out.astype(y.dtype), jnp.zeros(shape[1:], y.dtype))

    def apply(
        self, params: NetworkParams, xs: chex.Array, mask: chex.Array | None = None
    ) -> chex.Array:
        """Outputs `[T, *batch, O]` for xs `[T, *batch, I]`, in float32 at least."""
        return self.run(params, self.start(params, xs.shape[1:-1]), xs, mask)[1]

    def start(self, params: NetworkParams, batch_shape: tuple[int, ...] = ()) -> Any:
        """The cell's initial state."""
        return self.cell.initial_state(params.cell, batch_shape)

    def run(
        self, params: NetworkParams, state: Any, xs: chex.Array, mask: chex.Array | None = None
    ) -> tuple[Any, chex.Array]:
        """The last state and the outputs, from any state."""
        xs = self.inputs(params, xs)
        state, ys = unroll(self.cell, params.cell, state, xs, mask=mask, remat=self.remat)
        return state, self.readout(params, ys)

    def readout(self, params: NetworkParams, ys: chex.Array) -> chex.Array:
        """Outputs `[..., O]` of the cell's outputs `[..., H]`."""
        outputs = ys @ params.w_out + params.b_out
        return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))

    def inputs(self, params: NetworkParams, xs: chex.Array) -> chex.Array:
        """xs as the cell wants them: floats in the dtype of the params."""
        return xs.astype(params.w_out.dtype) if jnp.issubdtype(xs.dtype, jnp.floating) else xs

    def outputs(
        self, params: NetworkParams, batch: Batch, key: chex.PRNGKey | None = None
    ) -> chex.Array:
        """As `apply`, of a batch; nothing in it is random."""
        del key
        return self.apply(params, batch.xs, batch.mask)

    def parts(self, params: NetworkParams, batch: Batch) -> dict[str, Part]:
        """The cell on a batch from its initial state, as what there is to measure; no name."""
        xs = self.inputs(params, batch.xs)
        return {"": Part(self.cell, params.cell, None, xs, batch.mask, None)}


def network(
    cell: Cell, output_size: int, input_size: int | None = None, *, remat: int | None = None
) -> Network:
    """Put a linear readout on a cell: `outputs = y @ w_out + b_out` at every step.

    Args:
      cell: a `Cell` whose output y is `[H]` for one example; of a stack it is the last cell's.
      output_size: O, numbers in one output.
      input_size: I. Needed for a cell of your own only; a gated cell tells it.
      remat: keep one state every so many steps, and recompute the rest, as in `rx.unroll`.

    Returns:
      A `Network`: `init(key) -> NetworkParams` and `apply(params, xs [T, B, I]) -> [T, B, O]`,
      starting from the cell's initial state. Its dtype is that of the cell, by default JAX's
      default float; xs is cast to it, and outputs are float32 at least, so that a loss is summed
      well.

    Raises:
      TypeError: if cell is not a `Cell`.
      ValueError: if a size is not a positive integer, is not known, or is not the cell's.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> net = rx.train.network(rx.cells.gru(3, 8), 2)
      >>> params = net.init(jax.random.key(0))
      >>> net.apply(params, jnp.ones((5, 4, 3))).shape, params.w_out.shape
      ((5, 4, 2), (8, 2))
    """
    if not isinstance(cell, Cell):
        remedy = (
            "What reads a sequence from both ends has no step to stream or watch: call rx.unroll "
            "in a model of your own, rx.train.model(init, apply), with a readout beside."
            if isinstance(cell, BothWays)
            else "Wrap a bare step function as rx.Cell(init=..., initial_state=..., step=...)."
        )
        raise TypeError(f"cell must be a rx.Cell, got {type(cell).__name__}. {remedy}")
    checks.check_positive_int("output_size", output_size)
    init: Any = cell.init
    while getattr(init, "inits", None):  # of a stack its first cell tells the size
        init = init.inits[0]
    told = getattr(init, "input_size", None)
    told = told if isinstance(told, int) else None
    if input_size is None and told is None:
        raise ValueError(
            "input_size is not told by this cell: name it, rx.train.network(cell, output_size, "
            "input_size)"
        )
    size = told if input_size is None else input_size
    checks.check_positive_int("input_size", size)
    if told not in (None, size):
        raise ValueError(
            f"the cell takes {told} features, but {size} come in: build it with input_size={size}"
        )
    if remat is not None:
        checks.check_positive_int("remat", remat)
    return Network(cell, int(size), int(output_size), remat)  # type: ignore[arg-type]


def network_of(cell: Any, task: Any) -> Network:
    """Return the network that `fit` trains: a cell's for a task, or the one that is given."""
    own = not isinstance(task, Task)
    if isinstance(cell, Network):
        if not own and (cell.input_size, cell.output_size) != (task.input_size, task.output_size):
            raise ValueError(
                f"the network takes {cell.input_size} features and gives {cell.output_size}, but "
                f"the task {task.name!r} has {task.input_size} and asks for {task.output_size}: "
                "pass the cell alone, and the readout will fit"
            )
        return cell
    if own:
        raise TypeError(
            "cell must be a rx.train.network(cell, output_size) for batches of your own, which do "
            f"not tell the output size; got {type(cell).__name__}"
        )
    return network(cell, task.output_size, task.input_size)
