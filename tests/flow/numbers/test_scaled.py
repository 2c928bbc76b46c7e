"""A mantissa and a power of two: exact, or as near as one rounding."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurrax.flow.numbers.scaled import (
    ZERO,
    Scaled,
    add,
    by_row,
    frobenius,
    log_of,
    multiply,
    power_of_two,
    rescale,
    share,
)

DTYPES = ["float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_power_of_two_is_exact_bit_for_bit(dtype, x64):
    info = np.finfo(dtype)
    exponents = np.arange(info.minexp, info.maxexp)
    got = np.asarray(power_of_two(jnp.asarray(exponents, jnp.int32), jnp.dtype(dtype)))
    expected = np.ldexp(np.ones(1, dtype), exponents)
    bits = f"u{info.bits // 8}"
    assert got.dtype == expected.dtype == dtype
    np.testing.assert_array_equal(got.view(bits), expected.view(bits))


@pytest.mark.parametrize("dtype", DTYPES)
def test_power_of_two_below_and_above_the_normal_range(dtype, x64):
    info = np.finfo(dtype)
    exponents = jnp.asarray([info.minexp - 1, -(10**6), info.maxexp, 10**6], jnp.int32)
    got = power_of_two(exponents, jnp.dtype(dtype))
    largest = 2.0 ** int(info.maxexp - 1)
    assert got.tolist() == [0.0, 0.0, largest, largest]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1.0, 0.75, 3.0, 1e-30, 1e30, 2.0**-100])
def test_rescale_loses_nothing(dtype, size, x64):
    a = jnp.asarray(size * np.random.default_rng(0).standard_normal((3, 4)), dtype)
    mantissa, exponent = rescale(a)
    assert 0.5 <= float(abs(mantissa).max()) < 1
    back = np.ldexp(np.asarray(mantissa), int(exponent))
    np.testing.assert_array_equal(back, a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rescale_reaches_the_ends_of_the_range(dtype, x64):
    """A matrix near overflow comes down to order one, so that the next product is safe."""
    info = np.finfo(dtype)
    for size in (float(info.max), float(info.tiny)):
        mantissa, exponent = rescale(jnp.full(2, size, dtype))
        assert 0.5 <= float(mantissa[0]) < 4
        assert np.ldexp(np.asarray(mantissa), int(exponent)).tolist() == [size, size]


@pytest.mark.parametrize("value", [0.0, math.inf, -math.inf, math.nan])
def test_rescale_leaves_what_has_no_size(value):
    mantissa, exponent = rescale(jnp.asarray([value, 0.0]))
    np.testing.assert_array_equal(mantissa, [value, 0.0])
    assert int(exponent) == (ZERO if value == 0 else 0)


def test_rescale_is_linear_for_every_derivative():
    a, da = jnp.asarray([3.0, 5.0]), jnp.asarray([1.0, -2.0])
    (mantissa, _), (tangent, _) = jax.jvp(rescale, (a,), (da,))
    np.testing.assert_array_equal(mantissa, a / 8)
    np.testing.assert_array_equal(tangent, da / 8)
    assert jax.grad(lambda a: rescale(a)[0].sum())(a).tolist() == [0.125, 0.125]


@pytest.mark.parametrize("exponent", [0, -72_135, 72_135, -1_000_000])
def test_log_of(exponent):
    got = log_of(jnp.float32(0.625), jnp.int32(exponent))
    np.testing.assert_allclose(got, math.log(0.625) + exponent * math.log(2), rtol=2e-6)


def test_log_of_zero_is_minus_infinity_with_a_derivative_of_zero():
    value, slope = jax.value_and_grad(log_of)(jnp.float32(0), jnp.int32(-5))
    assert (float(value), float(slope)) == (-math.inf, 0.0)
    assert float(jax.grad(log_of)(jnp.float32(0.5), jnp.int32(-5))) == 2.0


def test_frobenius_and_its_derivative_at_zero():
    value, slope = jax.value_and_grad(frobenius)(jnp.asarray([[3.0, 0.0], [0.0, 4.0]]))
    assert float(value) == 5.0
    np.testing.assert_allclose(slope, [[0.6, 0.0], [0.0, 0.8]], rtol=1e-6)
    value, slope = jax.value_and_grad(frobenius)(jnp.zeros((2, 2)))
    assert float(value) == 0.0
    assert not slope.any()


def exact(pair):
    """The pair as a Python fraction of two integers, entry by entry."""
    from fractions import Fraction

    mantissa, exponent = pair
    # The exponent of zeros is so low that no integer should be made of it.
    return [
        Fraction(float(m)) * Fraction(2) ** int(exponent) if m else Fraction(0) for m in mantissa
    ]


SCALED = st.tuples(
    st.lists(
        st.floats(-1, 1, width=32).filter(lambda v: v == 0 or abs(v) > 1e-6), min_size=2, max_size=2
    ),
    st.integers(-500, 500),
)


@given(SCALED, SCALED)
def test_add_is_the_sum_to_rounding(a, b):
    pairs = [rescale(jnp.asarray(m, jnp.float32), e) for m, e in (a, b)]
    total = rescale(*add(*pairs))
    want = [x + y for x, y in zip(exact(pairs[0]), exact(pairs[1]), strict=True)]
    largest = max(abs(v) for pair in pairs for v in exact(pair))
    # Nothing is lost but what lies below the last bit of the largest entry of the two.
    for got, value in zip(exact(total), want, strict=True):
        assert abs(got - value) <= largest * 2**-23
    top = float(abs(total[0]).max())
    assert top == 0 or 0.5 <= top < 1


def test_add_takes_the_exponent_of_what_is_not_zero():
    zero, small = rescale(jnp.zeros(2)), Scaled(jnp.asarray([0.5, 0.25]), jnp.int32(-9000))
    for pair in (add(zero, small), add(small, zero)):
        assert pair[0].tolist() == [0.5, 0.25]
        assert int(pair[1]) == -9000


@pytest.mark.parametrize("before", [0, 40, -40])
def test_a_zero_keeps_its_derivative(before):
    """An array that is zero by chance may have a derivative that later terms are added to."""

    def total(x):
        part = rescale(jnp.stack([x, 2 * x]), before)  # zero at x = 0, in units of 2**before
        mantissa, exponent = rescale(*add(part, rescale(jnp.ones(2), -3)))
        return mantissa * power_of_two(exponent, mantissa.dtype)

    value, slope = jax.jvp(total, (jnp.float32(0),), (jnp.float32(1),))
    assert value.tolist() == [0.125, 0.125]
    assert slope.tolist() == [2.0**before, 2.0 ** (before + 1)]


def test_the_shape_of_the_exponent_says_what_shares_one():
    a = jnp.asarray([[1.0, 2.0**-60], [0.0, 0.0]])
    assert rescale(a).exponent.tolist() == 1
    assert rescale(a, jnp.zeros((2, 1), int)).exponent.tolist() == [[1], [ZERO]]
    columns = rescale(a, jnp.asarray([5, -5]))
    assert columns.exponent.tolist() == [6, -64]
    assert columns.mantissa.tolist() == [[0.5, 0.5], [0.0, 0.0]]
    mantissa, exponent = share(columns)
    assert (mantissa.tolist(), int(exponent)) == ([[0.5, 2.0**-71], [0.0, 0.0]], 6)
    tree = rescale((a, 8 * a), jnp.zeros((2, 1), int))
    assert tree.exponent.tolist() == [[4], [ZERO]]
    assert float(tree.mantissa[0][0, 0]) == 2.0**-4


def test_products_keep_rows_of_any_size():
    """By row, `(2^9000, 2^-9000) diag` times a matrix: neither row is lost."""
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.standard_normal((2, 2)), jnp.float32) for _ in range(2))
    rows = jnp.asarray([[9000], [-9000]])
    got = multiply(rescale(jnp.triu(a), rows), rescale(b, -rows))
    # Row 0 has an entry of 2^0 beside one of 2^18000, row 1 has one of 2^0 alone.
    np.testing.assert_allclose(
        got.mantissa[0], (a[0, 1] * b[1]) * 2.0 ** (18000.0 - got.exponent[0])
    )
    np.testing.assert_allclose(
        got.mantissa[1], (a[1, 1] * b[1]) * 2.0 ** -float(got.exponent[1, 0])
    )
    columns = by_row(Scaled(a, jnp.asarray([0, -9000])))
    assert columns.mantissa[:, 1].tolist() == [0, 0]
    np.testing.assert_array_equal(np.ldexp(columns.mantissa[:, 0], columns.exponent[:, 0]), a[:, 0])
