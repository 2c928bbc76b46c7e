"""What `tests.benchmarks.gpu` compares: every side compiles one case, or says why it cannot.

All sides of a case get the same weights and inputs, rounded to its dtype, and the loss
`sum(ys * w)`, w being fixed noise; the gradient is the params'. The programs are those of
`tests.benchmarks.peers`, told to compute in the case's dtype.
"""

from __future__ import annotations

import contextlib
import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.unrolling import gpu_options

from . import peers
from .peers import GATES, Missing, Problem, Program

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINES = ("scan", "hoisted", "kernel")
WHATS = ("forward", "gradient")
TAIL = 16  # steps whose outputs are compared between the sides that are timed


class Case(NamedTuple):
    """A cell of I = H in one dtype."""

    cell: str
    dtype: str
    T: int
    B: int
    H: int

    def __str__(self) -> str:
        return f"{self.cell} {self.dtype} T={self.T} B={self.B} H={self.H}"

    @property
    def plain(self) -> peers.Case:
        return peers.Case(self.cell, self.T, self.B, self.H, self.H)


class Ready(NamedTuple):
    """Compiled; the call waits for its result."""

    call: Callable[[], Any]
    tail: Callable[[Any], np.ndarray]  # of the outputs of a forward call, time major, float32


def problem(case: Case) -> Problem:
    """Weights as NumPy in float32, inputs and noise on the device in the case's dtype."""
    rng = np.random.default_rng([list(GATES).index(case.cell), *case[2:]])
    width, scale = GATES[case.cell] * case.H, 1 / math.sqrt(case.H)
    weights = (
        scale * rng.standard_normal((case.H, width), np.float32),
        scale * rng.standard_normal((case.H, width), np.float32),
        0.1 * rng.standard_normal(width, np.float32),
        0.1 * rng.standard_normal(case.H, np.float32),
    )
    shape, (first, second) = (case.T, case.B, case.H), jax.random.split(jax.random.PRNGKey(0))
    xs = jax.random.normal(first, shape, case.dtype)
    # Of a size at which neither these nor the gradients leave the range of float16.
    w = jax.random.normal(second, shape, case.dtype) / math.sqrt(case.T * case.B)
    return Problem(*weights, xs, w)


def cast(tree: Any, dtype: Any) -> Any:
    """Arrays on the device."""
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def precision(dtype: str) -> Any:
    """float32 is to be float32 for everyone, and no tf32."""
    if dtype == "float32":
        return jax.default_matmul_precision("highest")
    return contextlib.nullcontext()


def recurrax(case: Case, given: Problem, engine: str) -> Program:
    return peers.recurrax(case.plain, given, engine)


def flax(case: Case, given: Problem) -> Program:
    import flax.linen as nn

    kinds = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "elman": nn.SimpleCell}
    cell = kinds[case.cell](case.H, dtype=case.dtype, param_dtype=case.dtype)
    program = peers.flax_linen(case.plain, given)
    return program._replace(apply=nn.RNN(cell, time_major=True).apply)


def jax_rnn(case: Case, given: Problem) -> Program:
    if case.dtype != "float32":
        raise Missing("jax.experimental.rnn takes float32 only")
    return peers.jax_rnn(case.plain, given)


def with_jax(
    case: Case, given: Problem, what: str, build: Callable[..., Program], *, graphs: bool = False
) -> Ready:
    """Compile a program of JAX."""
    program = build(case, given)
    params = cast(program.params, case.dtype)
    xs, w = (a.swapaxes(0, 1) if program.batch_major else a for a in (given.xs, given.w))

    def loss(params: Any, xs: Any, w: Any) -> Any:
        return (program.apply(params, xs) * w).sum()

    function, arguments = program.apply, (params, xs)
    if what == "gradient":
        function, arguments = jax.value_and_grad(loss), (params, xs, w)
    options = gpu_options() if graphs else {}
    with precision(case.dtype):
        run = jax.jit(function, compiler_options=options or None).lower(*arguments).compile()

    def tail(ys: Any) -> np.ndarray:
        last = ys[:, -TAIL:].swapaxes(0, 1) if program.batch_major else ys[-TAIL:]
        return np.asarray(last, np.float32)

    return Ready(lambda: jax.block_until_ready(run(*arguments)), tail)


def torch(case: Case, given: Problem, what: str) -> Ready:
    """torch's own layers, which are cuDNN's on a GPU."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and jax.default_backend() == "gpu":
        raise Missing("this torch has no GPU")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    dtype = getattr(torch, case.dtype)
    forward, gradient = peers.torch_calls(case.plain, given, device=device, dtype=dtype)
    call = forward if what == "forward" else gradient
    return Ready(call, lambda ys: ys[-TAIL:].float().cpu().numpy())


def _engine(name: str, *, graphs: bool = False) -> Callable[..., Ready]:
    return partial(with_jax, build=partial(recurrax, engine=name), graphs=graphs)


OURS: dict[str, Callable[..., Ready]] = {
    "kernel": _engine("kernel"),
    "scan": _engine("scan"),
    "scan+graphs": _engine("scan", graphs=True),
    "hoisted": _engine("hoisted"),
    "hoisted+graphs": _engine("hoisted", graphs=True),
}
THEIRS: dict[str, Callable[..., Ready]] = {
    "flax": partial(with_jax, build=flax),
    "jax.experimental.rnn": partial(with_jax, build=jax_rnn),
    "torch": torch,
}
SIDES = OURS | THEIRS


def outputs_and_gradients(case: Case, given: Problem, engine: str, dtype: str) -> list[np.ndarray]:
    """Of the case as it was rounded to its own dtype, computed in another: ys, then gradients."""
    rounded = Problem(*(np.asarray(cast(a, case.dtype)).astype(np.float64) for a in given))
    with jax.enable_x64(dtype == "float64"), precision(dtype):
        rounded = Problem(*cast(tuple(rounded), dtype))
        program = recurrax(case, rounded, engine)

        def loss(params: Any, xs: Any, w: Any) -> Any:
            ys = program.apply(params, xs)
            return (ys * w).sum(), ys

        run = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (_, ys), gradients = run(program.params, rounded.xs, rounded.w)
        return [np.asarray(a).astype(np.float64) for a in (ys, *jax.tree.leaves(gradients))]
