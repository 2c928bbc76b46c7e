"""Two bidirectional layers of torch on packed sequences, in float64: values and gradients.

golden/torch_bidirectional.npz was written by golden/make_torch_bidirectional.py, where lengths are
from 1 to T, since torch refuses 0.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same

import recurrax as rx

pytestmark = pytest.mark.usefixtures("x64")
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
ENGINES = ("auto", "scan", "hoisted")  # the kernel has no float64


@pytest.fixture(params=["lstm", "gru"])
def kind(request):
    return request.param


@pytest.fixture
def golden(kind):
    path = Path(__file__).parents[1] / "golden" / "torch_bidirectional.npz"
    with np.load(path, allow_pickle=False) as file:
        names = [name for name in file.files if name.startswith(f"{kind}/")]
        found = {name.removeprefix(f"{kind}/"): jnp.asarray(file[name]) for name in names}
        return found | {"lengths": jnp.asarray(file["lengths"])}


@pytest.fixture
def deep(kind, golden):
    H = golden["h0"].shape[-1]
    make = getattr(rx.cells, kind)
    sizes = golden["x"].shape[-1], 2 * H
    return rx.stack(*(rx.bidirectional(make(size, H, dtype="float64")) for size in sizes))


def our_params(kind, deep, golden, prefix=""):
    """torch's weights as ours; with `prefix="d_"` torch's gradients as ours."""

    def one(end, like):
        w_ih, w_hh, b_ih, b_hh = (
            golden[f"{prefix}{name}_{end}"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        n = 2 * w_hh.shape[-1]
        # b = b_ih + b_hh, so the gradient by b is that by either of them.
        b, unit = (b_ih if prefix else b_ih + b_hh), like.unit
        if kind == "gru":
            b, unit = b.at[n:].set(b_ih[n:]), rx.cells.GRUUnit(b_n=b_hh[n:])
        return like._replace(w_in=w_ih.T, w_rec=w_hh.T, b=b, unit=unit)

    like = jax.eval_shape(deep.init, jax.random.key(0))
    return tuple(
        type(layer)(one(f"l{i}", layer.forward), one(f"l{i}_reverse", layer.backward))
        for i, layer in enumerate(like)
    )


def our_state(deep, golden, name):
    """Leaves `[layers * directions, B, H]`, layer by layer and forward first, as ours."""
    params = jax.eval_shape(deep.init, jax.random.key(0))
    treedef = jax.tree.structure(jax.eval_shape(deep.initial_state, params))
    fields = [golden[name.format(f)] for f in ("h", "c") if name.format(f) in golden]
    return jax.tree.unflatten(treedef, [leaf[i] for i in range(4) for leaf in fields])


def run(deep, golden, engine, args, lengths):
    params, state, xs = args
    mask = rx.length_mask(lengths, len(xs))
    return rx.unroll(deep, params, state, xs, mask=mask, engine=engine)


def test_values_and_gradients_on_every_engine(kind, deep, golden):
    @jax.jit
    def everything(args):
        def loss(args, engine):
            found = run(deep, golden, engine, args, golden["lengths"])
            weights = our_state(deep, golden, "weight_of_{}"), golden["weight_of_ys"]
            parts = jax.tree.map(lambda a, b: jnp.sum(a * b), found, weights)
            return sum(jax.tree.leaves(parts)), found

        return [jax.grad(loss, has_aux=True)(args, engine) for engine in ENGINES]

    args = our_params(kind, deep, golden), our_state(deep, golden, "{}0"), golden["x"]
    gradients = (
        our_params(kind, deep, golden, "d_"),
        our_state(deep, golden, "d_{}0"),
        golden["d_x"],
    )
    values = our_state(deep, golden, "{}"), golden["ys"]
    for found in everything(args):
        assert_close(found, (gradients, values), **CLOSE)


def test_a_row_of_length_0(kind, deep, golden):
    """It keeps its state and puts out zeros, and the other rows do not see it."""
    args = our_params(kind, deep, golden), our_state(deep, golden, "{}0"), golden["x"]
    args = (*args[:2], args[2].at[:, 1].set(jnp.nan))  # nor is its padding read

    def total(args):
        state, ys = run(deep, golden, "auto", args, golden["lengths"].at[1].set(0))
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((state, ys))), (state, ys)

    gradients, (state, ys) = jax.jit(jax.grad(total, has_aux=True))(args)
    others = np.array([0, 2, 3])
    assert_same(ys[:, 1], jnp.zeros_like(ys[:, 1]))
    assert_same(*(jax.tree.map(lambda leaf: leaf[1], tree) for tree in (state, args[1])))
    torch = our_state(deep, golden, "{}"), jnp.moveaxis(golden["ys"], 1, 0)
    assert_close(
        *(
            jax.tree.map(lambda leaf: leaf[others], tree)
            for tree in ((state, jnp.moveaxis(ys, 1, 0)), torch)
        ),
        **CLOSE,
    )
    assert_close(
        jax.tree.map(lambda leaf: leaf[1], gradients[1]),
        jax.tree.map(lambda leaf: jnp.cos(leaf[1]), args[1]),
    )
    assert_same(gradients[2][:, 1], jnp.zeros_like(gradients[2][:, 1]))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))
