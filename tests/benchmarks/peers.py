"""The peers of `tests.benchmarks.training`, each served in a process of its own.

A peer gets the same problem, drawn by NumPy in recurrax's layout (rows are vectors, gates side by
side: i, f, g, o and r, z, n), carries the weights over into its own layout, and answers with
numbers, to be compared, and with times. Its libraries are imported in its process only.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

GATES = {"elman": 1, "lstm": 4, "gru": 3}
SECONDS = 0.1  # about what one measurement takes, if one call does not take longer

# GRUs whose function no weights turn into recurrax's.
OTHER_GRUS = {
    "no_b_n": "it has no bias b_n inside the reset",
    "reset_first": "it resets before the recurrent product, and has no bias b_n",
}


class Case(NamedTuple):
    cell: str
    T: int
    B: int
    I: int
    H: int

    @property
    def shape(self) -> str:
        return f"{self.T}x{self.B}x{self.I}x{self.H}"


class Problem(NamedTuple):
    """Arrays of NumPy, float32."""

    w_in: np.ndarray  # [I, G*H]
    w_rec: np.ndarray  # [H, G*H]
    b: np.ndarray  # [G*H]
    b_n: np.ndarray  # [H], the GRU's
    xs: np.ndarray  # [T, B, I]
    w: np.ndarray  # [T, B, H]: the loss is sum(ys * w)


class Program(NamedTuple):
    """A peer of JAX."""

    apply: Callable[[Any, Any], Any]  # (params, xs) -> ys
    params: Any
    recurrent: Callable[[Any], Any]  # of the params' gradient, what d w_rec became
    batch_major: bool = False  # xs and ys
    other: str = ""  # a key of OTHER_GRUS
    sparing: Callable[[Any, Any], Any] | None = None  # the same with remat, for its memory only


class Ready(NamedTuple):
    """Compiled: both calls wait for their result."""

    forward: Callable[[], Any]
    gradient: Callable[[], Any]
    facts: dict[str, Any]


class Missing(Exception):
    """This peer has no such cell, or cannot run here."""


def problem(case: Case) -> Problem:
    """The same numbers in every process."""
    _, T, B, I, H = case
    rng = np.random.default_rng([list(GATES).index(case.cell), T, B, I, H])
    width = GATES[case.cell] * H
    arrays = (
        rng.normal(size=(I, width)) / math.sqrt(I),
        rng.normal(size=(H, width)) / math.sqrt(H),
        0.1 * rng.normal(size=width),
        0.1 * rng.normal(size=H),
        rng.normal(size=(T, B, I)),
        rng.normal(size=(T, B, H)) / (T * B),
    )
    return Problem(*(a.astype(np.float32) for a in arrays))


def reference(case: Case, given: Problem, other: str = "") -> np.ndarray:
    """What ys should be: the equations in NumPy, in float64."""
    w_in, w_rec, b, b_n, xs = (a.astype(np.float64) for a in given[:5])
    H, h, c = case.H, np.zeros((case.B, case.H)), np.zeros((case.B, case.H))
    b_n = 0 if other else b_n
    ys = np.empty((case.T, case.B, H))
    for t, z_in in enumerate(xs @ w_in + b):
        if case.cell == "elman":
            h = np.tanh(z_in + h @ w_rec)
        elif case.cell == "lstm":
            i, f, g, o = np.split(z_in + h @ w_rec, 4, -1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
        else:
            r, z = np.split(_sigmoid(z_in[:, : 2 * H] + h @ w_rec[:, : 2 * H]), 2, -1)
            first = other == "reset_first"
            product = (r * h) @ w_rec[:, 2 * H :] if first else r * (h @ w_rec[:, 2 * H :] + b_n)
            h = (1 - z) * np.tanh(z_in[:, 2 * H :] + product) + z * h
        ys[t] = h
    return ys


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.tanh(z / 2) / 2 + 0.5


def _ordered(matrix: np.ndarray, order: tuple[int, ...], signs: tuple[int, ...] = ()) -> np.ndarray:
    """The gates of a matrix in another order, those with a sign of -1 negated."""
    parts = np.split(matrix, len(order), -1)
    signs = signs or (1,) * len(order)
    return np.concatenate([sign * parts[k] for k, sign in zip(order, signs, strict=True)], -1)


def recurrax(case: Case, given: Problem, engine: str) -> Program:
    import recurrax as rx

    w_in, w_rec, b, b_n, *_ = given
    cell = getattr(rx.cells, case.cell)(case.I, case.H)
    params = {
        "elman": lambda: rx.cells.ElmanParams(w_in, w_rec, b),
        "lstm": lambda: rx.cells.LSTMParams(w_in, w_rec, b),
        "gru": lambda: rx.cells.GRUParams(w_in, w_rec, b, rx.cells.GRUUnit(b_n)),
    }[case.cell]()

    def apply(params: Any, xs: Any, remat: int | None = None) -> Any:
        state = cell.initial_state(params, (case.B,))
        return rx.unroll(cell, params, state, xs, engine=engine, remat=remat)[1]

    sparing = functools.partial(apply, remat=max(1, round(math.sqrt(case.T))))
    return Program(apply, params, lambda d: d.w_rec, sparing=sparing)


def flax_linen(case: Case, given: Problem) -> Program:
    import flax.linen as nn

    kinds = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "elman": nn.SimpleCell}
    rnn = nn.RNN(kinds[case.cell](case.H), time_major=True)
    names = {"lstm": "ifgo", "gru": "rzn", "elman": ("",)}[case.cell]
    biased = "h" if case.cell == "lstm" else "i"
    cell: dict[str, dict[str, np.ndarray]] = {}
    matrices = (np.split(m, len(names), -1) for m in given[:3])
    for name, w_in, w_rec, b in zip(names, *matrices, strict=True):
        cell |= {f"i{name}": {"kernel": w_in}, f"h{name}": {"kernel": w_rec}}
        cell[biased + name]["bias"] = b
    if case.cell == "gru":
        cell["hn"]["bias"] = given.b_n

    def recurrent(d: Any) -> Any:
        return [d["params"]["cell"][f"h{name}"]["kernel"] for name in names]

    return Program(rnn.apply, {"params": {"cell": cell}}, recurrent)


def flax_nnx(case: Case, given: Problem) -> Program:
    import jax.numpy as jnp
    from flax import nnx

    kinds = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell, "elman": nnx.SimpleCell}
    cell = kinds[case.cell](case.I, case.H, rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...] = given.w_in
    cell.dense_h.kernel[...] = given.w_rec
    (cell.dense_h if case.cell == "lstm" else cell.dense_i).bias[...] = given.b
    rnn = nnx.RNN(cell, time_major=True, rngs=False)
    graph, params, rest = nnx.split(rnn, nnx.Param, ...)

    def apply(params: Any, xs: Any) -> Any:
        zeros = jnp.zeros((case.B, case.H))
        carry = (zeros, zeros) if case.cell == "lstm" else zeros
        return nnx.merge(graph, params, rest)(xs, initial_carry=carry)

    other = "no_b_n" if case.cell == "gru" else ""
    return Program(apply, params, lambda d: d["cell"]["dense_h"]["kernel"], other=other)


def equinox(case: Case, given: Problem) -> Program:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    if case.cell == "elman":
        raise Missing("equinox has no Elman cell")
    w_in, w_rec, b, b_n, *_ = given
    kind = eqx.nn.LSTMCell if case.cell == "lstm" else eqx.nn.GRUCell
    cell = kind(case.I, case.H, key=jax.random.key(0))
    cell = eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), cell, (w_in.T, w_rec.T, b))
    if case.cell == "gru":
        cell = eqx.tree_at(lambda c: c.bias_n, cell, b_n)

    def apply(cell: Any, xs: Any) -> Any:
        def body(state: Any, x: Any) -> Any:
            state = jax.vmap(cell)(x, state)
            return state, state[0] if case.cell == "lstm" else state

        zeros = jnp.zeros((case.B, case.H))
        return jax.lax.scan(body, (zeros, zeros) if case.cell == "lstm" else zeros, xs)[1]

    return Program(apply, cell, lambda d: d.weight_hh)


def haiku(case: Case, given: Problem) -> Program:
    import haiku as hk

    if case.cell == "elman":
        raise Missing("haiku's VanillaRNN has a relu, and no tanh")
    kind = hk.LSTM if case.cell == "lstm" else hk.GRU

    def unrolled(xs: Any) -> Any:
        core = kind(case.H)
        return hk.dynamic_unroll(core, xs, core.initial_state(case.B), time_major=True)[0]

    apply = hk.without_apply_rng(hk.transform(unrolled)).apply
    if case.cell == "lstm":  # i, g, f, o, and 1 is added to the forget gate
        order = (0, 2, 1, 3)
        forget = np.repeat(np.array([0, 0, 1, 0], np.float32), case.H)
        w = np.concatenate([given.w_in, given.w_rec])
        linear = {"w": _ordered(w, order), "b": _ordered(given.b, order) - forget}
        return Program(apply, {"lstm/linear": linear}, lambda d: d["lstm/linear"]["w"][case.I :])
    signs = (-1, 1, 1)  # its z is 1 - z
    w_i, w_h, b = (_ordered(m, (1, 0, 2), signs) for m in given[:3])
    params = {"gru": {"w_i": w_i, "w_h": w_h, "b": b}}
    return Program(apply, params, lambda d: d["gru"]["w_h"], other="reset_first")


def keras(case: Case, given: Problem) -> Program:
    import keras

    kinds = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "elman": keras.layers.SimpleRNN}
    layer = kinds[case.cell](case.H, return_sequences=True)
    layer.build((case.B, case.T, case.I))
    params = list(given[:3])
    if case.cell == "gru":  # z, r, n, and a row of biases for each product
        zeros = np.zeros(2 * case.H, np.float32)
        params = [_ordered(m, (1, 0, 2)) for m in params]
        params[2] = np.stack([params[2], np.concatenate([zeros, given.b_n])])
    rest = [v.value for v in layer.non_trainable_variables]

    def apply(params: Any, xs: Any) -> Any:
        return layer.stateless_call(params, rest, xs)[0]

    return Program(apply, params, lambda d: d[1], batch_major=True)


def jax_rnn(case: Case, given: Problem) -> Program:
    import jax
    import jax.numpy as jnp
    from jax.experimental import rnn

    if jax.default_backend() != "gpu":
        raise Missing("jax.experimental.rnn is cuDNN's, which needs a GPU")
    if case.cell != "lstm":
        raise Missing("jax.experimental.rnn has an LSTM only")
    _, T, B, I, H = case
    pieces = (given.w_in.T, given.w_rec.T, given.b, np.zeros_like(given.b))

    def apply(weights: Any, xs: Any) -> Any:
        zeros, lengths = jnp.zeros((1, B, H)), jnp.full((B,), T, jnp.int32)
        full = jax.lax.Precision.HIGHEST
        return rnn.lstm(xs, zeros, zeros, weights, lengths, I, H, 1, 0.0, False, full)[0]

    weights = np.concatenate([piece.ravel() for piece in pieces])
    start = given.w_in.size
    return Program(apply, weights, lambda d: d[start : start + given.w_rec.size], batch_major=True)


def with_jax(build: Callable[..., Program], case: Case, **options: Any) -> Ready:
    """Compile a JAX peer; value and gradient first, while nothing of it is traced yet."""
    import jax

    given = problem(case)
    program = build(case, given, **options)
    xs, w = (a.swapaxes(0, 1) if program.batch_major else a for a in (given.xs, given.w))
    params, xs, w = jax.block_until_ready(jax.tree.map(jax.device_put, (program.params, xs, w)))

    def compiled(apply: Any) -> Any:
        def loss(params: Any, xs: Any, w: Any) -> Any:
            return (apply(params, xs) * w).sum()

        return jax.jit(jax.value_and_grad(loss)).lower(params, xs, w).compile()

    start = time.perf_counter()
    gradient = compiled(program.apply)
    facts = {"compile": time.perf_counter() - start, "temp": _temp(gradient)}
    if program.sparing is not None:
        facts["temp_remat"] = _temp(compiled(program.sparing))
    forward = jax.jit(program.apply).lower(params, xs).compile()
    value, d_params = gradient(params, xs, w)
    leaves = [np.asarray(d).ravel() for d in jax.tree.leaves(program.recurrent(d_params))]
    ys = np.asarray(forward(params, xs))
    facts |= {
        "ys": ys.swapaxes(0, 1) if program.batch_major else ys,
        "value": float(value),
        "d_w_rec": float(np.linalg.norm(np.concatenate(leaves).astype(np.float64))),
        "other": program.other,
    }
    return Ready(
        lambda: jax.block_until_ready(forward(params, xs)),
        lambda: jax.block_until_ready(gradient(params, xs, w)),
        facts,
    )


def _temp(compiled: Any) -> int | None:
    """Bytes of temporary memory, where the backend says so."""
    analysis = compiled.memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)


def torch(case: Case) -> Ready:
    """torch's own layers, on a GPU where there is one, else on all cores."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(cores())
    forward, gradient = torch_calls(case, problem(case), device=device)
    value, d_params = gradient()
    facts = {"ys": forward().cpu().numpy(), "value": float(value), "other": ""}
    return Ready(forward, gradient, facts | {"d_w_rec": float(d_params[1].double().norm())})


def torch_calls(
    case: Case, given: Problem, **options: Any
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The forward pass, and value and gradients by the params; each waits for its result.

    `options` are the device and the dtype, as torch takes them.
    """
    import torch

    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "elman": torch.nn.RNN}
    rnn = kinds[case.cell](case.I, case.H, **options)
    inner = np.zeros_like(given.b)  # torch has a bias for each product
    if case.cell == "gru":
        inner[-case.H :] = given.b_n
    weights = (given.w_in.T, given.w_rec.T, given.b, inner)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    arrays = (torch.tensor(np.ascontiguousarray(a)) for a in weights)
    rnn.load_state_dict(dict(zip(names, arrays, strict=True)))
    params = [getattr(rnn, name) for name in names]
    xs, w = (torch.tensor(np.asarray(a, np.float32)).to(**options) for a in (given.xs, given.w))
    wait = torch.cuda.synchronize if options["device"] == "cuda" else lambda: None

    def forward() -> Any:
        with torch.inference_mode():
            ys = rnn(xs)[0]
        wait()
        return ys

    def gradient() -> Any:
        value = (rnn(xs)[0] * w).sum()
        d_params = torch.autograd.grad(value, params)
        wait()
        return value.detach(), d_params

    return forward, gradient


class Peer(NamedTuple):
    modules: tuple[str, ...]
    build: Callable[[Case], Ready]


def _jax_peer(build: Callable[..., Program], *modules: str, **options: Any) -> Peer:
    return Peer((*modules, "jax", "jaxlib"), functools.partial(with_jax, build, **options))


PEERS = {
    "recurrax": _jax_peer(recurrax, "recurrax", engine="auto"),
    "recurrax-scan": _jax_peer(recurrax, "recurrax", engine="scan"),
    "flax.linen": _jax_peer(flax_linen, "flax"),
    "flax.nnx": _jax_peer(flax_nnx, "flax"),
    "equinox": _jax_peer(equinox, "equinox"),
    "haiku": _jax_peer(haiku, "haiku"),
    "keras": _jax_peer(keras, "keras"),
    "jax.experimental.rnn": _jax_peer(jax_rnn),
    "torch": Peer(("torch",), torch),
}


def cores() -> int:
    """Those this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start(peer: Peer) -> dict[str, str]:
    """Import its libraries; their versions, and what JAX runs on."""
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU is shared by all
    found = {name: importlib.import_module(name).__version__ for name in peer.modules}
    if "jax" in found:
        import jax

        if jax.default_backend() == "gpu":  # float32 is to be float32 for everyone
            jax.config.update("jax_default_matmul_precision", "highest")
        jax.jit(lambda x: x + 1).lower(1.0).compile()  # the first compilation wakes the compiler
        found["backend"] = f"{jax.default_backend()} ({jax.devices()[0].device_kind})"
    return found


def loops(function: Callable[[], Any]) -> int:
    """How many calls make a measurement."""
    return max(1, round(SECONDS / timed(function, 1)))


def timed(function: Callable[[], Any], times: int) -> float:
    """Mean seconds of a call."""
    begin = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - begin) / times


class Server:
    """What a peer's process answers."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.calls: dict[str, tuple[Callable[[], Any], int]] = {}

    def start(self) -> dict[str, str]:
        return start(self.peer)

    def prepare(self, case: Case) -> dict[str, Any]:
        """Compile a case in place of the last one; the numbers it computes."""
        self.calls = {}
        ready = self.peer.build(case)
        for name in ("forward", "gradient"):
            function = getattr(ready, name)
            function()
            self.calls[name] = (function, loops(function))
        return ready.facts

    def time(self, what: str) -> float:
        function, times = self.calls[what]
        function()  # the caches are full of what another process computed
        return timed(function, times)

    def answer(self, command: str, *arguments: Any) -> tuple[str, Any]:
        """`("ok", value)`, or why there is none."""
        try:
            return "ok", getattr(self, command)(*arguments)
        except (ImportError, Missing) as error:
            return "missing", str(error)
        except Exception:
            return "fails", traceback.format_exc(limit=-3)


def serve(name: str, pipe: Connection) -> None:
    """Answer until None is asked, or nobody is there to ask."""
    server = Server(PEERS[name])
    with contextlib.suppress(EOFError):
        while (question := pipe.recv()) is not None:
            pipe.send(server.answer(*question))
