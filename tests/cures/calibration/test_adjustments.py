"""What `adjust` may be, and what it changes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_same, says
from unlike_cells import MGU_VIEW, mgu, own, tau_init, with_tau

import recurrax as rx
from recurrax.cures.calibration.adjustments import adjustment


def of(adjust, cell, params=None, between=None):
    params = cell.init(jax.random.key(0)) if params is None else params
    return adjustment(adjust, cell, params, between), params


def changed(what, params, number):
    """Which leaves are not as they were."""
    new = what.change(params, number)
    pairs = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(new), strict=True)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (np.asarray(a), np.asarray(b))
        for (path, a), b in pairs
        if not np.array_equal(a, b)
    }


def test_the_gain_is_of_every_w_rec():
    cell = rx.stack(rx.cells.gru(3, 4), rx.cells.elman(4, 2))
    what, params = of("gain", cell)
    found = changed(what, params, 3.0)
    assert list(found) == ["0.w_rec", "1.w_rec"]
    for old, new in found.values():
        np.testing.assert_allclose(new, 3 * old, rtol=1e-6)
    assert_same(what.change(params, what.present), params)


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        (rx.cells.lstm(3, 4), "ifgo"),
        (rx.cells.gru(3, 4), "rzn"),
        (rx.residual(rx.cells.gru(4, 4)), "rzn"),
        (own(mgu, 3, 4, 2, view=MGU_VIEW), "fn"),
        (rx.cells.elman(3, 4), "h"),
    ],
)
def test_a_gate_is_its_own_block_of_the_bias(cell, names):
    """A GRU's candidate sees the gate r too, an MGU's f: the block of b is the one that is left."""
    for place, name in enumerate(names):
        what, params = of(name, cell)
        found = changed(what, params, 1.5)
        assert list(found) == ["b"]
        moved = np.flatnonzero(found["b"][1] - found["b"][0])
        assert moved.tolist() == list(range(4 * place, 4 * place + 4))
        np.testing.assert_allclose(found["b"][1][moved], found["b"][0][moved] + 1.5)


def test_a_gate_that_shares_its_bias():
    def both(unit, z_in, z_rec):
        a, b = jax.nn.sigmoid(z_in + z_rec)
        return a, b, a * b

    view = rx.GateView(("a", "b", "ab"), ("sigmoid",) * 3, both)
    cell = own(mgu, 3, 4, 2, view=view)
    with says(
        ValueError,
        "adjust='ab' is made from several gates, so that no bias is its own: take one of the "
        "others, or a function (params, number) -> params",
    ):
        of("ab", cell)


def test_a_leaf_is_scaled_in_its_dtype():
    cell = own(with_tau, 3, 4, unit_init={"tau": tau_init}, dtype=jnp.bfloat16)
    for name in ("tau", "unit.tau"):
        what, params = of(name, cell)
        found = changed(what, params, 1.3)
        assert list(found) == ["unit.tau"]
        new = what.change(params, 1.3).unit["tau"]
        assert_same(new, jnp.full(4, jnp.float32(1.3) * 4).astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("function", "present", "low"),
    [
        (lambda p, g: p._replace(w_rec=g * p.w_rec), 1.0, 1 / 64),
        (lambda p, b: p._replace(b=p.b + b), 0.0, -8.0),
    ],
)
def test_a_function_tells_what_it_is(function, present, low):
    what, _ = of(function, rx.cells.elman(3, 4))
    assert (what.present, what.range.low) == (present, low)
    what, _ = of(function, rx.cells.elman(3, 4), between=(0.5, 2))
    assert what.range == (0.5, 2.0)


ELMAN = rx.cells.elman(3, 4)


@pytest.mark.parametrize(
    ("adjust", "cell", "between", "kind", "text"),
    [
        (
            "forget",
            rx.cells.lstm(3, 4),
            None,
            ValueError,
            "adjust: there is no gate or leaf of the params 'forget'. There are gain, i, f, g, o, "
            "w_in, w_rec, b",
        ),
        (
            "unit.b_m",
            rx.cells.gru(3, 4),
            None,
            ValueError,
            "adjust: there is no gate or leaf of the params 'unit.b_m'; did you mean 'unit.b_n'? "
            "There are gain, r, z, n, w_in, w_rec, b, unit.b_n",
        ),
        (
            "b_n",
            rx.cells.gru(3, 4),
            None,
            ValueError,
            "adjust='b_n' is a factor of params.unit.b_n, which is 0 everywhere, so it changes "
            "nothing: begin from other params, or give a function (params, number) -> params",
        ),
        (
            3,
            ELMAN,
            None,
            TypeError,
            'adjust must be "gain", the name of a gate or of a leaf of the params, or a function '
            "(params, number) -> params; got 3",
        ),
        (
            lambda params, number: params._replace(w_rec=params.w_rec + 1 + number),
            ELMAN,
            None,
            ValueError,
            "adjust is a function by which neither 1 nor 0 leaves the params as they are, so it "
            "does not tell where to look: give between=(low, high)",
        ),
        (
            lambda params, number: params,
            ELMAN,
            None,
            ValueError,
            "adjust must change the params with its number, but gave them as they are",
        ),
        (
            lambda params, number: params._replace(b=params.b[:1]),
            ELMAN,
            None,
            TypeError,
            "adjust must keep the shapes and dtypes of the params: float32[4] became float32[1]",
        ),
        (
            "gain",
            ELMAN,
            (2, 1),
            ValueError,
            "between must be (low, high) with low < high, got (2, 1)",
        ),
        ("gain", ELMAN, 2, TypeError, "between must be two numbers (low, high), got 2"),
    ],
)
def test_bad_arguments(adjust, cell, between, kind, text):
    with says(kind, text):
        of(adjust, cell, between=between)


def test_params_without_w_rec():
    def step(params, h, x):
        return h, h

    with says(
        ValueError,
        "adjust is the recurrent gain by default, a factor of w_rec, and params has no w_rec; step "
        "has weights. Give the name of a leaf, or a function (params, number) -> params.",
    ):
        of("gain", step, {"weights": jnp.ones((2, 2))})
    with pytest.raises(TypeError, match="adjust must return params like those it is given"):
        of(lambda params, number: None, step, {"weights": jnp.ones((2, 2))})
