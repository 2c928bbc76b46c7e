"""The gradient by lags: the parts add up to `jax.grad`, and each is what surgery says."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import linear, truncated
from close import says
from contract import make_case
from ragged import MASK, ragged

import recurrax as rx

LOSSES = {
    "last": lambda ys: jnp.sum(jnp.sin(3 * ys[-1])),
    "all": lambda ys: jnp.sum(jnp.sin(3 * ys)),
    "some": lambda ys: jnp.sum(jnp.sin(3 * ys[1:4:2])),
}
WRT = {"own_plain": "w", "stack": ("[0].w_rec", "[1].w_rec")}


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def chosen(params, name):
    if name == "own_plain":
        return params.w
    return [part.w_rec for part in params] if name == "stack" else params.w_rec


def assert_profile(found, sums):
    """That it says of sums of parts, `[K, P]`, what they say: the norms and where they point."""
    whole = sums[-1]
    parts = [sums[0], *(b - a for a, b in itertools.pairwise(sums))]
    size = np.linalg.norm(whole)
    norms = np.asarray([np.linalg.norm(part) for part in parts])
    np.testing.assert_allclose(np.exp(found.log_norm), norms, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(np.exp(found.log_total), size, rtol=1e-10)
    shares = [np.vdot(one, whole) / size**2 for one in sums]
    np.testing.assert_allclose(found.share, shares, rtol=1e-8, atol=1e-10)
    errors = [np.linalg.norm(whole - one) / size for one in sums]
    np.testing.assert_allclose(found.error, errors, rtol=1e-6, atol=1e-10)
    cosines = [np.vdot(p, whole) / size / n if n else 0 for p, n in zip(parts, norms, strict=True)]
    np.testing.assert_allclose(found.cosine, cosines, rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        *((name, "some") for name in ("elman_tanh", "lstm", "own_gated", "own_plain", "stack")),
        *((name, loss) for name in ("lstm", "own_plain") for loss in ("last", "all")),
    ],
)
def test_against_truncated_gradients(name, loss):
    case = make_case(name, "float64", T=4 if name == "stack" else 5)
    found = rx.flow.lag_profile(*case, LOSSES[loss], wrt=WRT.get(name, "w_rec"))
    length = range(len(case.xs))
    sums = [flat(chosen(truncated(*case, LOSSES[loss], k), name)) for k in length]
    assert_profile(found, sums)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "loss"), [("lstm", "last"), ("gru", "all"), ("gru", "some")])
def test_the_total_is_the_gradient(name, loss):
    case = make_case(name, "float64")

    def of_params(params):
        return LOSSES[loss](rx.unroll(case.cell, params, case.state, case.xs)[1])

    found = rx.flow.lag_profile(*case, LOSSES[loss])
    expected = np.linalg.norm(jax.jit(jax.grad(of_params))(case.params).w_rec)
    np.testing.assert_allclose(np.exp(found.log_total), expected, rtol=1e-12)
    np.testing.assert_allclose(found.share[-1], 1, rtol=1e-12)
    assert found.error[-1] < 1e-12


@pytest.mark.usefixtures("x64")
def test_one_example_and_under_jit():
    """One example has a path of its own; traced, the choice of a path is made when it runs."""
    cell, params, state, xs = make_case("lstm", "float64")
    case = (cell, params, jax.tree.map(lambda leaf: leaf[:1], state), xs[:, :1])
    bare = (cell, params, jax.tree.map(lambda leaf: leaf[0], state), xs[:, 0])

    def masked(looks, *case):
        return rx.flow.lag_profile(*case, lambda ys: LOSSES["all"]((ys.T * looks).T))

    traced = jax.jit(lambda looks, *arrays: masked(looks, cell, *arrays))
    length = len(xs)
    for looks in np.eye(length)[-1], np.ones(length):  # at the last output, or at all
        first = masked(looks, *case)
        for other in (masked(looks, *bare), traced(looks, *bare[1:])):
            for name in ("log_norm", "share", "error", "cosine"):
                mine, theirs = getattr(first, name), getattr(other, name)
                np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-9, err_msg=name)


def test_far_below_the_smallest_number():
    """`h_T = w^T h_0`: T equal parts of w^(T-1), at w = .5 and T = 3000 in float32."""
    last = lambda ys: jnp.sum(ys[-1])  # noqa: E731
    step = lambda w, h, x: (w * h, w * h)  # noqa: E731
    found = rx.flow.lag_profile(step, 0.5, jnp.ones(1), jnp.zeros((100, 0)), last, wrt=None)
    np.testing.assert_allclose(found.log_norm, 99 * np.log(0.5), rtol=1e-5)
    np.testing.assert_allclose(found.share, np.arange(1, 101) / 100, rtol=1e-4)


def linear_cell(w):
    """`h = h w + x`, gated, with one hidden unit."""
    cell = rx.cells.elman(1, 1, activation="relu")
    one = jnp.ones((1, 1))
    return cell, cell.init(jax.random.key(0))._replace(w_in=one, w_rec=w * one, b=jnp.zeros(1))


@pytest.mark.parametrize("batch", [(), (2,)])
def test_a_gated_cell_far_below_the_smallest_number(batch):
    """`h_t = h_{t-1} / 16 + x` with h = 1 throughout: parts of (1 / 16)^k, to 1e-119."""
    cell, params = linear_cell(1 / 16)
    state = cell.initial_state(params, batch)._replace(h=jnp.ones((*batch, 1)))
    xs = jnp.full((100, *batch, 1), 15 / 16)
    found = rx.flow.lag_profile(cell, params, state, xs, lambda ys: jnp.sum(ys[-1]))
    size = np.log(max(1, *batch)) if batch else 0
    expected = size - np.arange(100) * np.log(16)
    np.testing.assert_allclose(found.log_norm, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.log_total, size + np.log(16 / 15), rtol=1e-5)


def test_parts_of_one_example_that_cancel():
    """`h_t = x - a h_{t-1}` with h = 1: the parts are (-a)^k, and their sums cancel."""
    a, length = 0.9999, 101
    cell, params = linear_cell(-a)
    state = cell.initial_state(params)._replace(h=jnp.ones(1))
    xs = jnp.full((length, 1), 1 + a)
    found = rx.flow.lag_profile(cell, params, state, xs, lambda ys: jnp.sum(ys[-1]))
    parts = (-a) ** np.arange(length)
    error = np.abs(np.cumsum(parts[::-1])[::-1][1:] / parts.sum())
    np.testing.assert_allclose(found.error[:-1], error, atol=2e-5)  # some roundings of G
    assert error.min() < 1e-2


def test_what_a_loss_refers_to_may_be_another_by_the_next_call():
    case = make_case("gru", "float32")
    goal = jnp.zeros(())

    def loss(ys):
        return jnp.sum((ys[-1] - goal) ** 2)

    first = rx.flow.lag_profile(*case, loss)
    goal = jnp.ones(())
    second = rx.flow.lag_profile(*case, loss)
    assert (first.log_norm != second.log_norm).any()
    goal = jnp.asarray(jnp.nan)
    with pytest.raises(ValueError, match=r"the gradient of loss by ys.* is not finite: nan"):
        rx.flow.lag_profile(*case, loss)


def test_a_loss_is_not_kept_alive():
    case = make_case("gru", "float32")

    def call():
        def loss(ys):
            return jnp.sum(ys[-1])

        for _ in range(2):
            rx.flow.lag_profile(*case, loss)
        return weakref.ref(loss)

    found = call()
    gc.collect()
    assert found() is None


@jax.custom_vjp
def clipped(h):
    return h


clipped.defvjp(lambda h: (h, None), lambda _, error: (jnp.clip(error, -9, 9),))


@pytest.mark.usefixtures("x64")
def test_a_gated_cell_that_the_engine_cannot_take_apart():
    """Its gradient is clipped, so it is not linear in general; no error here is that large."""
    cell, params, state, xs = make_case("elman_tanh", "float64")
    step = cell.step
    odd = dataclasses.replace(step, pointwise=lambda *a: type(state)(clipped(step.pointwise(*a).h)))
    small = lambda ys: 1e-3 * LOSSES["all"](ys)  # noqa: E731
    expected = rx.flow.lag_profile(step, params, state, xs, small)
    found = rx.flow.lag_profile(odd, params, state, xs, small)
    for name in ("log_norm", "share", "error", "cosine"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-7, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize("keep", [0.95, 0.5])
def test_truncation_of_a_steady_decay(keep):
    """At e^(-a) a step the error left after lag k is e^(-a (k + 1)): 95 % is kept at 3 / a."""
    a = 0.1
    w = jnp.exp(-a) * jnp.ones(1)
    step = lambda w, h, x: (w * h + x, w * h + x)  # noqa: E731
    last = lambda ys: jnp.sum(ys[-1])  # noqa: E731
    found = rx.flow.lag_profile(step, w, jnp.full(1, 10.0), jnp.ones((200, 1)), last, wrt=None)
    steps = int(rx.flow.truncation(found, keep=keep))
    error = np.asarray(found.error)
    assert (error[steps:] <= 1 - keep).all()
    assert error[steps - 1] > 1 - keep


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"wrt": "w_out"},
            ValueError,
            "wrt must name leaves of the params ('w_in', 'w_rec', 'b', 'unit.b_n'), got 'w_out'; "
            "wrt=None takes all of them",
        ),
        ({"wrt": 3}, TypeError, "wrt must be a name or a tuple of names of leaves, got 3"),
    ],
)
def test_bad_wrt(options, kind, text):
    with says(kind, text):
        rx.flow.lag_profile(*make_case("gru", "float32"), LOSSES["all"], **options)


def test_a_loss_that_is_no_scalar():
    with pytest.raises(TypeError, match="loss must take the outputs ys and return a real scalar"):
        rx.flow.lag_profile(*make_case("gru", "float32"), lambda ys: ys[-1])
    with pytest.raises(TypeError, match=r"loss must be a function of the outputs ys, got 1\.0"):
        rx.flow.lag_profile(*make_case("gru", "float32"), 1.0)


@pytest.mark.parametrize("keep", [0.0, 1.0, -1.0])
def test_bad_keep(keep):
    found = rx.flow.lag_profile(
        linear, jnp.eye(2), jnp.ones(2), jnp.ones((3, 2)), lambda ys: jnp.sum(ys), wrt=None
    )
    with pytest.raises(ValueError, match="keep"):
        rx.flow.truncation(found, keep=keep)


@pytest.mark.usefixtures("x64")
def test_its_derivative_by_the_inputs():
    cell = rx.cells.elman(2, 4)
    params = jax.tree.map(lambda leaf: leaf.astype("float64"), cell.init(jax.random.key(0)))
    xs = jax.random.normal(jax.random.key(1), (12, 2), "float64")

    @jax.jit
    def of(scale):
        found = rx.flow.lag_profile(cell, params, None, scale * xs, lambda ys: jnp.sum(ys[-1] ** 2))
        return jnp.stack([found.error[2], found.share[2], found.log_total])

    slopes = (of(1 + 1e-5) - of(1 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jacrev(of)(1.0), slopes, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(of)(1.0), slopes, rtol=1e-6)


# --- a mask and resets ----------------------------------------------------------------------------

LAST = MASK[::-1].argmax(0)  # steps from the end


def of_last(ys):
    """Of the last output that counts of each row, which stand at different times."""
    return jnp.sum(jnp.sin(3 * ys[len(ys) - 1 - LAST, jnp.arange(len(LAST))]))


@pytest.mark.parametrize(
    ("name", "loss"), [("gated", of_last), ("gated", LOSSES["all"]), ("plain", LOSSES["all"])]
)
def test_lags_count_the_steps_that_count_and_end_at_a_reset(name, loss, x64):
    case = ragged(name)
    wrt = WRT["stack"] if name == "plain" else "w_rec"
    found = rx.flow.lag_profile(*case.args, loss, wrt=wrt, **case.flags)
    sums = [truncated(*case.args, loss, k, **case.flags) for k in range(len(MASK))]
    name = "stack" if name == "plain" else name
    assert_profile(found, [flat(chosen(each, name)) for each in sums])

    def whole(params):
        cell, _, state, xs = case.args
        return loss(rx.unroll(cell, params, state, xs, **case.flags)[1])

    gradient = flat(chosen(jax.grad(whole)(case.args[1]), name))
    np.testing.assert_allclose(np.exp(found.log_total), np.linalg.norm(gradient), rtol=1e-10)


def test_one_row_with_gaps_is_the_row_without_them(x64):
    cell, params, state, xs = ragged("gated").args
    state, xs, mask = jax.tree.map(lambda leaf: leaf[2], state), xs[:, 2], jnp.asarray(MASK[:, 2])
    last = LOSSES["last"]
    found = rx.flow.lag_profile(cell, params, state, xs, last, mask=mask)
    alone = rx.flow.lag_profile(cell, params, state, xs[mask], last)
    count = len(alone.lags)
    for a, b in zip(found[1:], alone[1:], strict=True):
        np.testing.assert_allclose(a[:count] if a.ndim else a, b, rtol=1e-12, atol=1e-12)
    assert np.isneginf(found.log_norm[count:]).all()
    nothing = jnp.zeros_like(mask)
    none = rx.flow.lag_profile(cell, params, state, xs, last, mask=nothing, resets=nothing)
    assert np.isneginf(none.log_norm).all()
    assert none.share[-1] == 1


def test_an_input_that_rows_share_is_masked_for_each(x64):
    def step(w, h, x):
        h = jnp.tanh(w * h + x["own"] + x["all"])
        return h, 2 * h

    cell = rx.Cell(init=None, initial_state=lambda w, shape=(): jnp.zeros((*shape, 2)), step=step)
    own = jnp.asarray(np.random.default_rng(0).standard_normal((len(MASK), 4, 2)))
    shared = own[:, 0, :1]
    each = jnp.broadcast_to(shared[:, None], own.shape)
    flags = ragged("gated").flags
    found, wide = (
        rx.flow.lag_profile(
            cell,
            jnp.ones(2),
            jnp.zeros((4, 2)),
            {"own": own, "all": x},
            LOSSES["all"],
            wrt=None,
            **flags,
        )
        for x in (shared, each)
    )
    for a, b in zip(found, wide, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
