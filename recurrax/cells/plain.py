"""What the cells with gates share whose update is not elementwise: params, checks and print."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import Cell
from recurrax.gated.cell import LECUN_NORMAL, Initializer, call_text, draw_blocks, per_gate
from recurrax.gated.step import check_has_weights, check_leaves, check_state_and_inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


@dataclasses.dataclass(frozen=True)
class PlainInit:
    """`init(key) -> params` gate by gate, with `w_proj [H, P]` where there is a projection."""

    input_size: int
    hidden_size: int
    projection_size: int | None
    input_init: tuple[Initializer, ...]
    recurrent_init: tuple[Initializer, ...]
    bias_init: tuple[Initializer, ...]
    projection_init: Initializer
    dtype: Any
    params: type
    call: str = dataclasses.field(default="", compare=False, repr=False)  # as a cell is printed

    @property
    def gated_sizes(self) -> tuple[int, int]:
        """The features that a cell takes and gives, which a stack compares."""
        return self.input_size, self.projection_size or self.hidden_size

    def __call__(self, key: chex.PRNGKey) -> Any:
        checks.check_key(key)
        checks.check_dtype_enabled(self.dtype)
        hidden, (size, given) = self.hidden_size, self.gated_sizes
        k_in, k_rec, k_b, k_proj = jax.random.split(key, 4)
        draw = partial(draw_blocks, dtype=self.dtype)
        projection = {}
        if self.projection_size is not None:
            (projection["w_proj"],) = draw(k_proj, (self.projection_init,), (hidden, given))
        return self.params(
            w_in=jnp.concatenate(draw(k_in, self.input_init, (size, hidden)), -1),
            w_rec=jnp.concatenate(draw(k_rec, self.recurrent_init, (given, hidden)), -1),
            b=jnp.concatenate(draw(k_b, self.bias_init, (hidden,)), -1),
            **projection,
        )


@dataclasses.dataclass(frozen=True)
class PlainStep:
    """`(params, state, x) -> (state, y)` with `y = state.h`, of params and a state that fit."""

    update: Callable[[Any, Any, Any], Any]  # update(params, state, x) -> state
    gates: int
    state: type

    def __call__(self, params: Any, state: Any, x: chex.Array) -> tuple[Any, Any]:
        self._check(params, state, x, name="x", timed=False)
        state = self.update(params, state, x)
        return state, state.h

    def __repr__(self) -> str:
        """Its name."""
        return getattr(self, "__name__", None) or checks.named(self.update)

    def documented(self, name: str, doc: str) -> PlainStep:
        """The same step with a name and a docstring, as a module-level function has them."""
        step = dataclasses.replace(self)
        object.__setattr__(step, "__name__", name)
        object.__setattr__(step, "__doc__", doc)
        return step

    def call_text(self, init: Any) -> str:
        """A cell with this step as the call that makes it, for `Cell` to print."""
        return getattr(init, "call", "") or f"Cell(step={self!r})"

    def check_inputs(self, params: Any, state: Any, xs: Any) -> None:
        """Raise if a whole sequence does not fit; called once, before time is unrolled."""
        self._check(params, state, xs, name="xs", timed=True)

    def _check(self, params: Any, state: Any, xs: Any, *, name: str, timed: bool) -> None:
        check_has_weights(params)
        size, given = params.w_in.shape[0], params.w_rec.shape[0]
        projection = getattr(params, "w_proj", None)
        hidden = given if projection is None else jnp.shape(projection)[0]
        columns = self.gates * hidden
        shapes = {"w_in": (size, columns), "w_rec": (given, columns), "b": (columns,)}
        words, letter = f"I = {size}, H = {hidden}", "H"
        if projection is not None:
            shapes["w_proj"], letter = (hidden, given), "P"
            words += f", P = {given}"
        check_leaves(params, shapes, f"{words} and {self.gates} gates")
        widths = dict.fromkeys(self.state._fields, ("H", hidden))  # type: ignore[attr-defined]
        widths["h"] = (letter, given)
        check_state_and_inputs(self, widths, size, state, xs, name=name, timed=timed)


def plain_cell(
    name: str,
    step: PlainStep,
    params: type,
    initial_state: Any,
    sizes: dict[str, int],
    *,
    recurrent_init: Any,
    input_init: Any,
    bias_init: Any,
    projection_init: Initializer = LECUN_NORMAL,
    dtype: Any,
    printed: dict[str, Any] | None = None,
) -> Cell:
    """A cell of these sizes, which prints as a call of `name`, with what is `printed` besides."""
    for argument, size in sizes.items():
        checks.check_positive_int(argument, size)
    projection = sizes.get("projection_size")
    init = PlainInit(
        input_size=int(sizes["input_size"]),
        hidden_size=int(sizes["hidden_size"]),
        projection_size=None if projection is None else int(projection),
        input_init=per_gate("input_init", input_init, step.gates),
        recurrent_init=per_gate("recurrent_init", recurrent_init, step.gates),
        bias_init=per_gate("bias_init", bias_init, step.gates),
        projection_init=projection_init,
        dtype=checks.floating_dtype(dtype),
        params=params,
    )
    drawn = {"recurrent_init": recurrent_init, "input_init": input_init, "bias_init": bias_init}
    # In the order of the printed ones, which stand in place of what was drawn or before it.
    arguments = (printed or {}) | {key: (printed or {}).get(key, drawn[key]) for key in drawn}
    init = dataclasses.replace(init, call=call_text(f"{name}(", init, arguments))
    return Cell(init=init, initial_state=initial_state, step=step)
