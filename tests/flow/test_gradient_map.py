"""Every pair of times: against whole products of whole Jacobians."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import batch_jacobians, chosen, linear, log_norms
from close import says
from contract import make_case

import recurrax as rx
from recurrax.flow.steps.pairs import gram_schmidt


def pairs(matrices, every=1, of=slice(None), wrt=slice(None)):
    """`[K, K, n, m]`: d s_t / d s_s from the per-step Jacobians `[T, N, N]`, zero where s > t."""
    count, size = len(matrices) // every, matrices.shape[-1]
    found = np.zeros((count, count, size, size))
    for j in range(count):
        product = np.eye(size)
        if j:
            found[j - 1, j] = product
        for t in range(j * every, count * every):
            product = matrices[t] @ product
            if (t + 1) % every == 0:
                found[(t + 1) // every - 1, j] = product
    return found[:, :, of, wrt]


def assert_logs(found, expected, **tolerance):
    spectral, frobenius = log_norms(expected)
    np.testing.assert_allclose(found.log_norm, spectral, **tolerance)
    np.testing.assert_allclose(found.log_frobenius, frobenius, **tolerance)


CLOSE = {"rtol": 1e-8, "atol": 1e-9}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm", {}),
        ("lstm", {"of": "c", "wrt": "h"}),
        ("own_plain", {"every": 2}),
        ("stack", {"of": ("[0].h", "[1].h"), "wrt": "[0]"}),
    ],
)
def test_against_products_of_jacobians(name, options):
    case = make_case(name, "float64")
    if name == "stack":
        options = options | {"wrt": ("[0].h", "[0].c")}
    matrices = batch_jacobians(*case)
    rows, columns = slice(None), slice(None)
    if name == "lstm" and options:
        rows, columns = slice(4, 8), slice(0, 4)
    if name == "stack":  # the LSTM's h and c of 4, and the GRU's h of 5
        rows, columns = np.r_[0:4, 8:13], slice(0, 8)
    found = rx.flow.gradient_map(*case, **options)
    every = options.get("every", 1)
    assert found.targets.tolist() == list(range(every, 7, every))
    assert found.sources.tolist() == list(range(0, 6, every))
    for b in range(matrices.shape[1]):
        expected = pairs(matrices[:, b], every, slice(None), slice(None))
        expected = expected[:, :, rows][..., columns]
        got = rx.flow.GradientMap(found.log_norm[..., b], found.log_frobenius[..., b], None, None)
        assert_logs(got, expected, **CLOSE)


@pytest.mark.usefixtures("x64")
def test_many_sources_in_tiles():
    """Two tiles of 44 sources, of which the last is none; the order of three matrices is seen."""
    ws = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3, 3)))
    xs = jnp.arange(87) % 3
    found = rx.flow.gradient_map(chosen, ws, jnp.ones(3), xs)
    matrices = np.asarray(ws)[np.asarray(xs)].transpose(0, 2, 1)
    assert_logs(found, pairs(matrices), **CLOSE)
    thin = rx.flow.gradient_map(chosen, ws, jnp.ones(3), xs, every=4)
    assert thin.log_norm.shape == (21, 21)
    inside = np.tril_indices(21)
    np.testing.assert_allclose(
        thin.log_norm[inside], found.log_norm[3:84:4, 0:84:4][inside], rtol=1e-9, atol=1e-9
    )


def test_the_first_column_is_the_decay():
    case = make_case("gru", "float32")
    found, decay = rx.flow.gradient_map(*case), rx.flow.decay(*case)
    np.testing.assert_allclose(found.log_norm[:, 0], decay.log_norm, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.log_frobenius[:, 0], decay.log_frobenius, rtol=1e-5, atol=1e-5)


def test_future_and_present():
    """What comes later has no influence; at its own time a state is its own derivative."""
    case = make_case("lstm", "float32")
    one = case._replace(state=jax.tree.map(lambda leaf: leaf[0], case.state), xs=case.xs[:, 0])
    own, other = (rx.flow.gradient_map(*one, of="c", wrt=wrt) for wrt in ("c", "h"))
    assert np.isneginf(own.log_norm[np.triu_indices(6, 2)]).all()
    assert (np.diagonal(own.log_norm, 1) == 0).all()
    np.testing.assert_allclose(np.diagonal(own.log_frobenius, 1), 0.5 * np.log(4), rtol=1e-6)
    assert np.isneginf(np.diagonal(other.log_norm, 1)).all()


def test_far_below_the_smallest_number():
    w = 0.5 * jnp.eye(2)
    found = rx.flow.gradient_map(linear, w, jnp.zeros(2), jnp.zeros((5000, 2)), every=1000)
    steps = found.targets[:, None] - found.sources[None]
    inside = steps > 0
    np.testing.assert_allclose(found.log_norm[inside], np.log(0.5) * steps[inside], rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("probes", [1, 4])
def test_random_directions_are_unbiased_and_bound_from_below(probes):
    rng = np.random.default_rng(1)
    ws = jnp.asarray(rng.standard_normal((3, 8, 8)) / 3)
    xs = jnp.arange(6) % 3

    def squares(key):
        found = rx.flow.gradient_map(chosen, ws, jnp.ones(8), xs, probes=probes, key=key)
        return jnp.exp(2 * found.log_frobenius), found.log_norm

    exact = rx.flow.gradient_map(chosen, ws, jnp.ones(8), xs)
    estimates, bounds = jax.lax.map(squares, jax.random.split(jax.random.key(0), 400))
    inside = np.tril_indices(6)
    truth = np.exp(2 * np.asarray(exact.log_frobenius))[inside]
    mean, spread = np.asarray(estimates).mean(0)[inside], np.asarray(estimates).std(0)[inside]
    assert (spread > 0).all()
    np.testing.assert_array_less(np.abs(mean - truth), 4.5 * spread / 20 + 1e-12)
    assert (np.asarray(bounds)[:, *inside] <= np.asarray(exact.log_norm)[inside] + 1e-9).all()


@pytest.mark.usefixtures("x64")
def test_few_directions_find_the_largest_over_many_steps():
    """Half of the directions are those that later steps stretch most."""
    size = 0.8 ** np.arange(16)  # so that the directions differ
    ws = jnp.asarray(np.random.default_rng(1).standard_normal((3, 16, 16)) / 4 * size)
    xs = jnp.arange(71) % 3  # tiles of which the last is not full
    found = rx.flow.gradient_map(chosen, ws, jnp.ones(16), xs, probes=4)
    exact = rx.flow.gradient_map(chosen, ws, jnp.ones(16), xs)
    far = np.tril_indices(71, -20)
    np.testing.assert_allclose(found.log_norm[far], exact.log_norm[far], atol=2e-2)
    np.testing.assert_allclose(found.log_frobenius[far], exact.log_frobenius[far], atol=2e-2)


def test_few_directions_of_some_leaves():
    case = make_case("lstm", "float32")
    options = {"of": "c", "wrt": "h"}
    few, exact = (rx.flow.gradient_map(*case, **options, probes=k) for k in (3, None))
    inside = np.tril_indices(6)
    below = exact.log_norm[inside] - few.log_norm[inside]
    assert (below > -1e-5).all()
    assert jnp.median(below) < 0.25
    apart = few.log_frobenius[inside] - exact.log_frobenius[inside]
    assert jnp.median(jnp.abs(apart)) < 0.25


def test_as_many_probes_as_directions_are_exact():
    case = make_case("elman_tanh", "float32")
    few, all_ = (rx.flow.gradient_map(*case, probes=k) for k in (4, None))
    assert (few.log_norm == all_.log_norm).all()


@pytest.mark.parametrize("probes", [None, 3])
def test_weights_of_zero(probes):
    cell = rx.cells.elman(1, 4)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
    found = rx.flow.gradient_map(cell, params, None, jnp.zeros((3, 1)), probes=probes)
    assert np.isneginf(found.log_norm[np.tril_indices(3)]).all()
    assert not np.isnan(found.log_frobenius).any()


def leak(w, h, x):
    """Each unit forgets by its w, and all of them where x is 0."""
    h = w * h * x
    return h, h


@pytest.mark.parametrize("probes", [None, 4])
def test_an_event_that_erases_everything(probes):
    w = jnp.linspace(0.5, 0.95, 8)
    xs = jnp.ones((12, 1)).at[6].set(0)
    found = rx.flow.gradient_map(leak, w, jnp.ones(8), xs, probes=probes)
    steps = found.targets[:, None] - found.sources[None]
    across = (found.sources[None] <= 6) & (found.targets[:, None] > 6) & (steps > 0)
    assert np.isneginf(found.log_norm[across]).all()
    aside = (steps > 0) & ~across
    assert np.isfinite(found.log_norm[aside]).all()
    truth = np.log(0.95) * steps
    if probes is None:
        np.testing.assert_allclose(found.log_norm[aside], truth[aside], atol=1e-5)
    else:
        assert (found.log_norm[aside] <= truth[aside] + 1e-5).all()
        assert (found.log_norm[aside] > truth[aside] - 3).all()


def test_a_derivative_that_is_zero_at_first():
    """A delay line: a reaches c after two steps, and then the directions must be found."""

    def delay(_, s, x):
        s = jnp.concatenate([0.5 * s[:6], s[:6], s[6:12]])
        return s, s

    step = lambda p, s, x: ({"s": delay(p, s["s"], x)[0]}, s["s"])  # noqa: E731
    found = rx.flow.gradient_map(step, 0.0, {"s": jnp.ones(18)}, jnp.zeros((5, 1)), probes=4)
    exact = rx.flow.gradient_map(step, 0.0, {"s": jnp.ones(18)}, jnp.zeros((5, 1)))
    inside = np.tril_indices(5)
    assert (found.log_norm[inside] > exact.log_norm[inside] - 2).all()


@pytest.mark.parametrize("probes", [None, 1])
def test_a_large_factor_at_every_step(probes):
    """Two such factors have no place in float32."""
    for factor in (1e-22, 1e22):
        step = lambda w, h, x: (w * h * x, h)  # noqa: E731
        xs = jnp.zeros((6, 1)) + factor
        found = rx.flow.gradient_map(step, jnp.ones(2), jnp.zeros(2), xs, probes=probes)
        inside = np.tril_indices(6)
        steps = (found.targets[:, None] - found.sources[None])[inside]
        np.testing.assert_allclose(found.log_frobenius[inside] / steps, np.log(factor), rtol=0.05)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("probes", [None, 1])  # a single direction is random, whatever the params
def test_derivative(probes):
    case = make_case("elman_tanh", "float64", T=3)

    @jax.jit
    def total(scale):
        params = case.params._replace(w_rec=scale * case.params.w_rec)
        found = rx.flow.gradient_map(case.cell, params, case.state, case.xs, probes=probes)
        inside = jnp.tril_indices(3)
        return jnp.sum(found.log_norm[inside] + found.log_frobenius[inside])

    slope, step = jax.grad(total)(1.0), 1e-5
    difference = (total(1 + step) - total(1 - step)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_gram_schmidt():
    v = jnp.asarray(np.random.default_rng(0).standard_normal((5, 4, 6)))
    v = v.at[:, 1].set(1e-20 * v[:, 1])
    v = v.at[3, 2].set(0).at[4, 3].set(v[4, 0])  # erased, and twice the same
    spare = jnp.asarray(np.random.default_rng(1).standard_normal((4, 6)))
    basis = np.asarray(gram_schmidt(v, spare))
    eye = np.broadcast_to(np.eye(4), (5, 4, 4))
    np.testing.assert_allclose(basis @ basis.swapaxes(1, 2), eye, atol=1e-4)
    for k in range(3):
        q, r = np.linalg.qr((np.asarray(v[k], np.float64) * np.c_[[1, 1e20, 1, 1]]).T)
        np.testing.assert_allclose(basis[k].T, q * np.sign(np.diag(r)), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"every": 7}, ValueError, "every must be at most T = 6, got 7"),
        ({"every": 0}, ValueError, "every must be a positive integer, got 0"),
        ({"probes": 1.5}, TypeError, "probes must be a positive integer, got 1.5"),
        ({"of": "c"}, ValueError, "of must name leaves of the state ('h'), got 'c'"),
        (
            {"key": 3},
            TypeError,
            "key must be a JAX random key such as jax.random.key(0), got 3",
        ),
    ],
)
def test_bad_options(options, kind, text):
    with says(kind, text):
        rx.flow.gradient_map(*make_case("gru", "float32"), **options)


def test_state_that_overflows():
    """Also in a step that the map itself leaves out."""
    for every in (1, 2):
        with pytest.raises(ValueError, match="The forward pass overflows there"):
            rx.flow.gradient_map(
                linear, 1e15 * jnp.eye(1), jnp.ones(1), jnp.zeros((3, 1)), every=every
            )
