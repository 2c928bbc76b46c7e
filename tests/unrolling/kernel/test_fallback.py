"""`engine="auto"`: the kernel where it is known to be right and faster, else hoisted and why."""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import pytest
from close import assert_close
from kernel_cells import cumulative, gated

import recurrax as rx
from recurrax.unrolling.kernel import choose, placement, primitive

H200 = placement.Device((9, 0), 227 * 1024)


@pytest.fixture
def bound(monkeypatch):
    """The names of the kernels that were asked for."""
    names = []
    real = primitive._bind

    def bind(name, *args):
        names.append(name)
        return real(name, *args)

    monkeypatch.setattr(primitive, "_bind", bind)
    return names


def on(monkeypatch, device):
    monkeypatch.setattr(placement, "attached", lambda: device)


# What is picked depends on the device, which is not in JAX's key: each test has a T of its own.
LENGTHS = itertools.count(40)


@pytest.fixture
def run():
    """A function that unrolls a cell over this test's number of steps."""
    length = next(LENGTHS)

    def unroll(cell, engine="auto", *, more=0):
        params = cell.init(jax.random.key(0))
        xs = jax.random.normal(jax.random.key(1), (length + more, 2, 3), params.w_in.dtype)
        return rx.unroll(cell, params, None, xs, engine=engine)

    return unroll


def falls_back(run, cell, reason, bound):
    """Hoisted, the same numbers, and one warning however often it runs."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = run(cell)
        run(cell, more=500)
    said = [str(w.message) for w in caught if "GPU kernel" in str(w.message)]
    name = said[0].split(" by engine")[0].removeprefix('engine="auto" runs ')
    assert said == [
        f'engine="auto" runs {name} by engine="hoisted" and not by the GPU kernel: {reason}. The '
        "results are the same."
    ]
    assert not bound
    assert_close(found, run(cell, "scan"))


def test_the_kernel_is_taken_where_it_was_measured(run, monkeypatch, measured, bound):
    on(monkeypatch, H200)
    monkeypatch.setattr(measured, "compile_for_gpu", lambda *_: None)
    cell = rx.cells.lstm(3, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run(cell)
    assert "forward" in bound
    assert_close(found, run(cell, "scan"))


def test_without_a_gpu_nothing_is_said(run, measured, bound):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(rx.cells.lstm(3, 8))
    assert not bound


def test_where_nothing_was_measured_nothing_is_said(run, monkeypatch, bound):
    on(monkeypatch, H200)
    assert choose.MEASURED == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(rx.cells.lstm(3, 8))
    assert not bound


@pytest.mark.parametrize(
    "region", [(("float32",), (1, 7), (1, 99)), (("float32",), (1, 99), (3, 99)),
               (("bfloat16",), (1, 99), (1, 99))]
)  # fmt: skip
def test_beyond_what_was_measured(run, monkeypatch, measured, bound, region):
    on(monkeypatch, H200)
    monkeypatch.setattr(measured, "MEASURED", (measured.Region(*region),))
    run(rx.cells.lstm(3, 8))
    assert not bound


def test_several_devices(run, monkeypatch, measured, bound):
    """What shards a batch over devices cannot cut a kernel in two."""
    on(monkeypatch, H200)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    run(rx.cells.lstm(3, 8))
    assert not bound


def test_an_old_gpu(run, monkeypatch, measured, bound):
    on(monkeypatch, placement.Device((7, 5), 64 * 1024))
    reason = "the GPU has compute capability 7.5, and the kernel needs 8.0 or newer"
    falls_back(run, rx.cells.lstm(3, 8), reason, bound)


def test_too_large(run, monkeypatch, measured, bound):
    on(monkeypatch, placement.Device((9, 0), 16 * 1024))
    reason = (
        "w_rec of H = 40 and 4 gates in float32 does not fit in a block's 16384 bytes of shared "
        "memory; the largest H that does is 16"
    )
    falls_back(run, rx.cells.lstm(3, 40), reason, bound)


def test_too_long(monkeypatch, measured):
    """A kernel counts in 32 bits; chunks of time may be short enough."""
    on(monkeypatch, H200)
    monkeypatch.setattr(measured, "compile_for_gpu", lambda *_: None)
    cell = rx.cells.lstm(3, 32)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((2**17, 2**7, 3), jnp.float32)

    def shape(**options):
        run = lambda p, xs: rx.unroll(cell, p, None, xs, engine="kernel", **options)[1]  # noqa: E731
        return jax.eval_shape(run, params, xs).shape

    with pytest.raises(
        ValueError, match=r"T \* B \* G H = 131072 \* 128 \* 128 numbers are more than"
    ):
        shape()
    assert shape(remat=2**16) == (2**17, 2**7, 32)


def test_what_cannot_be_addressed_is_run_plainly(monkeypatch):
    """Where `jax.vmap` has made it so large, nobody can be told any more."""
    monkeypatch.setattr(primitive, "addressable", lambda _: False)
    cell = rx.cells.lstm(3, 8)
    run = jax.jit(lambda p, xs: rx.unroll(cell, p, None, xs, engine="kernel")[1])
    traced = run.trace(cell.init(jax.random.key(0)), jnp.ones((next(LENGTHS), 2, 3)))
    assert "stablehlo.while" in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_a_pointwise_function_that_cannot_be_lowered(run, monkeypatch, measured, bound):
    on(monkeypatch, H200)
    reason = "its pointwise function cannot be run gate by gate: cumsum is not elementwise"
    falls_back(run, gated(cumulative, gates=2), reason, bound)


def test_what_pallas_cannot_lower(run, monkeypatch, measured):
    """Elementwise, but Triton's lowering has no rule for it: found by the trial, not by a list."""
    on(monkeypatch, H200)

    def special(unit, z_in, z_rec, state):
        return state._replace(h=jax.lax.lgamma(2 + jnp.tanh(z_in + z_rec)[0]))

    monkeypatch.setattr(
        "recurrax.unrolling.kernel.by_gate._ELEMENTWISE",
        engine_elementwise() | {"lgamma", "digamma"},
    )
    cell = gated(special, gates=1)
    with pytest.warns(UserWarning, match="and not by the GPU kernel: it does not compile: "):
        found = run(cell)
    assert_close(found, run(cell, "scan"))


def engine_elementwise():
    from recurrax.unrolling.kernel.by_gate import _ELEMENTWISE

    return _ELEMENTWISE


def test_any_failure_to_compile(run, monkeypatch, measured):
    on(monkeypatch, H200)

    def fail(*_):
        raise RuntimeError("ptxas died\nand said much")

    monkeypatch.setattr(measured, "compile_for_gpu", fail)
    with pytest.warns(UserWarning, match=r"GPU kernel: it does not compile: ptxas died\. The"):
        found = run(rx.cells.gru(3, 4))
    assert_close(found, run(rx.cells.gru(3, 4), "scan"))
    with pytest.raises(ValueError, match=r"gru_pointwise: it does not compile: ptxas died\. Use"):
        run(rx.cells.gru(3, 4), "kernel")


def test_pallas_is_imported_only_when_asked_for():
    code = """
import sys, jax, jax.numpy as jnp, recurrax as rx
cell = rx.cells.lstm(3, 8)
params = cell.init(jax.random.key(0))
rx.unroll(cell, params, None, jnp.ones((9, 2, 3)))
jax.grad(lambda p: rx.unroll(cell, p, None, jnp.ones((9, 2, 3)))[1].sum())(params)
print([name for name in sys.modules if name.startswith("jax.experimental.pallas")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
