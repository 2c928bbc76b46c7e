"""What holds for every initialiser: it is a value, it is documented, and cells take it."""

from __future__ import annotations

import doctest
import inspect

import jax
import jax.numpy as jnp
import pytest
from close import assert_same, says
from halves import skip_without

import recurrax as rx
from recurrax.cures import init

MATRICES = {
    "orthogonal": lambda **more: init.orthogonal(0.5, **more),
    "identity": lambda **more: init.identity(0.9, **more),
    "spectral_radius": lambda **more: init.spectral_radius(0.9, **more),
    "largest_singular_value": lambda **more: init.largest_singular_value(0.9, **more),
    "critical": lambda **more: init.critical(input_variance=0.5, **more),
}
ROWS = {
    "forget_bias": lambda **more: init.forget_bias(2.0, **more),
    "chrono": lambda **more: init.chrono(100, **more),
    "uniform_gate": lambda **more: init.uniform_gate(**more),
}


def test_the_tables_above_are_whole():
    assert sorted([*MATRICES, *ROWS]) == sorted(init.__all__)


@pytest.mark.parametrize("name", init.__all__)
def test_it_is_documented_and_its_example_runs(name):
    doc = inspect.getdoc(getattr(init, name))
    assert doc.splitlines()[0].endswith(".")
    assert all(section in doc for section in ("Args:", "Returns:", "Raises:", "Source:"))
    example = doctest.DocTestParser().get_doctest(doc, {}, name, None, 0)
    said = []
    failed, tried = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert tried
    assert not failed, "".join(said)


@pytest.mark.parametrize("name", MATRICES | ROWS)
def test_equal_ones_are_equal(name):
    make = (MATRICES | ROWS)[name]
    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != make(gates=5)


def test_cells_of_equal_initialisers_compile_once():
    traced = []

    def build(t_max):
        return rx.cells.lstm(
            2, 3, recurrent_init=init.critical(), bias_init=init.chrono(t_max), forget_bias=0.0
        )

    def run(cell, key):
        traced.append(cell)
        return cell.init(key)

    run = jax.jit(run, static_argnums=0)
    for t_max in (10, 10, 11):
        run(build(t_max), jax.random.key(0))
    assert traced == [build(10), build(11)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_one_in_a_cell_of_every_dtype(dtype, key):
    skip_without(dtype)
    for name, make in MATRICES.items():
        cell = rx.cells.gru(3, 4, recurrent_init=make(), dtype=dtype)
        w_rec = cell.init(key).w_rec
        assert (w_rec.shape, w_rec.dtype) == ((4, 12), dtype), name
        assert bool(jnp.isfinite(w_rec).all()), name
    for name, make in ROWS.items():
        more = {"input_gate": None} if name == "chrono" else {}
        b = rx.cells.gru(3, 4, bias_init=make(gates=3, **more), dtype=dtype).init(key).b
        assert (b.shape, b.dtype) == ((12,), dtype), name
        assert bool(jnp.isfinite(b).all()), name
        assert not b[:4].any(), name
        assert b[4:8].any(), name
        assert not b[8:].any(), name


@pytest.mark.parametrize("name", MATRICES)
def test_half_precision_is_float32_cast(name, key):
    make = MATRICES[name]()
    assert_same(make(key, (4, 4), jnp.bfloat16), make(key, (4, 4)).astype(jnp.bfloat16))


def test_the_whole_matrix_in_blocks(key):
    """`[H, G*H]` with gates=G: each block what the initialiser makes of its own key."""
    for name, make in MATRICES.items():
        whole = make(gates=3)(key, (4, 12))
        blocks = [make()(k, (4, 4)) for k in jax.random.split(key, 3)]
        assert_same(whole, jnp.concatenate(blocks, -1))
        assert whole.dtype == jnp.float32, name


@pytest.mark.parametrize("dtype", ["int32", "complex64"])
def test_a_dtype_that_is_not_floating_is_refused(dtype, key):
    made = [(make(), (4, 4)) for make in MATRICES.values()]
    made += [(make()[1], (4,)) for make in ROWS.values()]  # the forget gate's
    for one, shape in made:
        with says(
            TypeError, f"dtype must be a floating-point type such as jnp.float32, got {dtype}"
        ):
            one(key, shape, dtype)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (init.spectral_radius(2.0), "spectral_radius(2)"),
        (init.spectral_radius(2.0, base=init.identity()), "spectral_radius(2, base=identity(1))"),
        (init.orthogonal(0.5, gates=4), "orthogonal(0.5, gates=4)"),
        (init.critical(), "critical()"),
        (
            init.critical(input_variance=0.25, distribution="orthogonal"),
            "critical(input_variance=0.25, distribution='orthogonal')",
        ),
    ],
)
def test_an_initialiser_prints_as_the_call_that_makes_it(made, text):
    assert repr(made) == text
