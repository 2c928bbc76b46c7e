"""Both kernels are lowered for CUDA from a CPU: what a GPU would be given can be built."""

from __future__ import annotations

import contextlib
import warnings

import jax
import jax.numpy as jnp
import pytest
from kernel_cells import all_cells

import recurrax as rx

pytestmark = pytest.mark.slow


def a_gpu():
    """From jax 0.11 on Pallas asks which GPU it is for."""
    if jax.__version_info__ < (0, 11):
        return contextlib.nullcontext()
    device = jax.sharding.AbstractDevice("NVIDIA H200", 132, "gpu")
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.sharding.AbstractMesh((1,), ("x",), axis_types=auto, abstract_device=device)
    return jax.sharding.use_abstract_mesh(mesh)


def lowered(cell, dtype, batch=4, **options):
    shaped = jax.eval_shape(cell.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((9, batch, 3), dtype)

    def loss(params, xs):
        ys = rx.unroll(cell, params, None, xs, engine="kernel", **options)[1]
        return ys.astype(jnp.float32).sum()

    with a_gpu(), warnings.catch_warnings():
        warnings.simplefilter("error")  # nor is a user told what only Pallas's makers can mend
        traced = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).trace(shaped, xs)
        return traced.lower(lowering_platforms=("cuda",)).as_text()


DTYPES = ("float32", "bfloat16", "float16")


# Each cell with each dtype and with each size, and each size with each dtype.
@pytest.mark.parametrize(
    ("name", "dtype", "hidden"),
    [
        (name, dtype, (5, 64, 128)[(i + j) % 3])
        for i, name in enumerate(["elman", "lstm", "gru"])
        for j, dtype in enumerate(DTYPES)
    ],
)
def test_shipped_cells(name, dtype, hidden):
    text = lowered(getattr(rx.cells, name)(3, hidden, dtype=jnp.dtype(dtype)), dtype)
    assert text.count("__gpu$xla.gpu.triton") == 2  # forward and backward
    assert "stablehlo.while" not in text


@pytest.mark.parametrize(
    "name", ["minimal", "leaky", "closing_over", "moving_gates", "constant", "choosing"]
)
def test_cells_of_a_user(name):
    flags = {"mask": jnp.ones((9, 4), bool), "resets": jnp.zeros((9, 4), bool)}
    text = lowered(all_cells()[name], jnp.float32, **flags)
    assert text.count("__gpu$xla.gpu.triton") == 2


@pytest.mark.parametrize("batch", [1, 16, 100])
def test_batches(batch):
    assert lowered(rx.cells.gru(3, 40), jnp.float32, batch).count("__gpu$xla.gpu.triton") == 2


def test_tf32():
    with jax.default_matmul_precision("tensorfloat32"):
        fast = lowered(rx.cells.lstm(3, 64), jnp.float32)
    assert fast != lowered(rx.cells.lstm(3, 64), jnp.float32)


def test_on_a_cpu_the_loop_is_a_scan():
    cell = rx.cells.lstm(3, 8)
    params = cell.init(jax.random.key(0))
    run = jax.jit(lambda xs: rx.unroll(cell, params, None, xs, engine="kernel")[1])
    assert "stablehlo.while" in run.lower(jnp.ones((9, 4, 3))).as_text()
