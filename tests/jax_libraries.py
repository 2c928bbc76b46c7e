"""Recurrent layers of Flax, Haiku and Equinox, built and run by these libraries themselves.

What `golden/make_interop_jax.py` writes down, and what `interop/test_libraries_jax.py` compares
with where they are installed. Every weight is noise, biases included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

T, B, I, H = 5, 2, 3, 4


class Layer(NamedTuple):
    """A layer, or layers, as its library has it."""

    weights: Any  # a tree of float64, as the library's own init makes it
    run: Callable[[Any, Any], Any]  # run(weights, xs [T, B, I]) -> ys [T, B, H]


def noise(tree, seed=0):
    """The same tree with normal noise in every leaf."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(0.6 * draw.standard_normal(jnp.shape(a))), tree)


# --- Flax ----------------------------------------------------------------------------------------


def linen(make):
    """A module of linen that takes batches first."""
    import flax.linen as nn

    module = make(nn)
    xs = jnp.zeros((B, T, I))
    weights = noise(module.init(jax.random.key(0), xs)["params"])

    def run(weights, xs):
        return jnp.swapaxes(module.apply({"params": weights}, jnp.swapaxes(xs, 0, 1)), 0, 1)

    return Layer(weights, run)


def _rnn(name, **options):
    return lambda nn: nn.RNN(getattr(nn, name)(H, param_dtype=jnp.float64, **options))


def _deep(nn):
    """Two layers, the lower one in both directions, in the way of a user's compact module."""

    class Deep(nn.Module):
        @nn.compact
        def __call__(self, xs):
            cells = [nn.GRUCell(H, param_dtype=jnp.float64) for _ in range(3)]
            both = nn.Bidirectional(nn.RNN(cells[0]), nn.RNN(cells[1]))
            return nn.RNN(cells[2])(both(xs))

    return Deep()


def _scanned(nn):
    """The scan over time of PureJaxRL, whose carry is made by a cell of its own."""

    class ScannedRNN(nn.Module):
        @nn.compact
        def __call__(self, carry, x):
            nn.GRUCell(H).initialize_carry(jax.random.key(0), x.shape)
            return nn.GRUCell(H, param_dtype=jnp.float64)(carry, x)

    class ActorCritic(nn.Module):
        @nn.compact
        def __call__(self, xs):
            xs = nn.Dense(I, param_dtype=jnp.float64)(xs)
            scan = nn.scan(
                ScannedRNN,
                variable_broadcast="params",
                in_axes=1,
                out_axes=1,
                split_rngs={"params": False},
            )
            return scan(name="ScannedRNN_0")(jnp.zeros((xs.shape[0], H)), xs)[1]

    return ActorCritic()


def nnx(name, **options):
    from flax import nnx

    cell = getattr(nnx, name)(I, H, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **options)
    graph, state, rest = nnx.split(cell, nnx.Param, ...)
    weights = noise(nnx.to_pure_dict(state))

    def run(weights, xs):
        own = jax.tree.map(lambda leaf: leaf, state)
        nnx.replace_by_pure_dict(own, weights)
        module = nnx.merge(graph, own, rest)
        carry, ys = (jnp.zeros((xs.shape[1], H)),) * 2, []
        carry = carry if "LSTM" in name else carry[0]
        for x in xs:
            carry, y = module(carry, x)
            ys.append(y)
        return jnp.stack(ys)

    return Layer(weights, run)


# --- Haiku ---------------------------------------------------------------------------------------


def haiku(make):
    import haiku as hk

    def forward(xs):
        core = make(hk)
        return hk.static_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    net = hk.without_apply_rng(hk.transform(forward))
    weights = noise(net.init(jax.random.key(0), jnp.zeros((T, B, I))))
    return Layer(weights, net.apply)


# --- Equinox -------------------------------------------------------------------------------------


def equinox(make):
    """A cell, or a list of cells on top of each other."""
    import equinox as eqx

    module = noise(make(eqx.nn, jax.random.key(0)))

    def run(module, xs):
        for cell in module if isinstance(module, list) else [module]:
            xs = jax.vmap(lambda one, cell=cell: _sequence(cell, one), 1, 1)(xs)
        return xs

    return Layer(module, run)


def _sequence(cell, xs):
    zeros = jnp.zeros(cell.hidden_size)
    state, ys = ((zeros, zeros) if cell.weight_ih.shape[0] == 4 * H else zeros), []
    for x in xs:
        state = cell(x, state)
        ys.append(state[0] if isinstance(state, tuple) else state)
    return jnp.stack(ys)


# What the golden file holds.
LAYERS: dict[str, Callable[[], Layer]] = {
    "flax linen LSTM": lambda: linen(_rnn("LSTMCell")),
    "flax linen GRU": lambda: linen(_rnn("GRUCell")),
    "flax linen vanilla": lambda: linen(_rnn("SimpleCell")),
    "flax linen residual": lambda: linen(_rnn("SimpleCell", residual=True)),
    "flax linen relu": lambda: linen(_rnn("SimpleCell", activation_fn=jax.nn.relu)),
    "flax linen deep": lambda: linen(_deep),
    "flax linen scanned": lambda: linen(_scanned),
    "flax nnx LSTM": lambda: nnx("LSTMCell"),
    "flax nnx optimized LSTM": lambda: nnx("OptimizedLSTMCell"),
    "flax nnx GRU": lambda: nnx("GRUCell"),
    "flax nnx vanilla": lambda: nnx("SimpleCell", dtype=jnp.float64),  # computes in float32 else
    "haiku LSTM": lambda: haiku(lambda hk: hk.LSTM(H)),
    "haiku deep LSTM": lambda: haiku(lambda hk: hk.DeepRNN([hk.LSTM(H), hk.LSTM(H)])),
    "haiku GRU": lambda: haiku(lambda hk: hk.GRU(H)),
    "haiku vanilla": lambda: haiku(lambda hk: hk.VanillaRNN(H)),
    "haiku one bias": lambda: haiku(lambda hk: hk.VanillaRNN(H, double_bias=False)),
    "equinox LSTM": lambda: equinox(lambda nn, key: nn.LSTMCell(I, H, key=key)),
    "equinox GRU": lambda: equinox(lambda nn, key: nn.GRUCell(I, H, key=key)),
    "equinox GRU without bias": lambda: equinox(
        lambda nn, key: nn.GRUCell(I, H, use_bias=False, key=key)
    ),
    "equinox deep": lambda: equinox(
        lambda nn, key: [nn.GRUCell(I, H, key=key), nn.LSTMCell(H, H, key=key)]
    ),
}
# What it need not hold: the params of the first are those of an LSTM, and the second is refused.
OTHERS: dict[str, Callable[[], Layer]] = {
    "flax linen optimized LSTM": lambda: linen(_rnn("OptimizedLSTMCell")),
    "flax linen MGU": lambda: linen(_rnn("MGUCell")),
}
