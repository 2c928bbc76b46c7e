"""The flows of the table, and what is measured of them and of their observers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx
from recurrax.published.exponents import chaotic_flows as flows

# Euler's step from the published start, each field written out once more for Python's floats.
SPEEDS = {
    "Lorenz": lambda x, y, z: (10 * (y - x), x * (28 - z) - y, x * y - 8 * z / 3),
    "Rossler": lambda x, y, z: (-(y + z), x + y / 5, 0.2 + x * z - 5.7 * z),
    "Nose-Hoover": lambda x, y, z: (y, y * z - x, 1.5 - y * y),
    "Sprott B": lambda x, y, z: (y * z, x - y, 1 - x * y),
    "Vallis El Nino": lambda x, y, z: (102 * y - 3 * x, x * z - y, 1 - z - x * y),
    "Kawczynski-Strizhak": lambda x, y, z: (
        0.49 * (y - x**3 + 6.3 * x),
        -4.2 * x - y - z - 0.4,
        0.2 * (x - z),
    ),
    "Thomas": lambda x, y, z: tuple(10 * np.sin(b) - 1.85 * a for a, b in ((x, y), (y, z), (z, x))),
    "ABC": lambda x, y, z: (
        1.73205 * np.sin(z) + np.cos(y),
        1.41421 * np.sin(x) + 1.73205 * np.cos(z),
        np.sin(y) + 1.41421 * np.cos(x),
    ),
    "Chua": lambda x, y, z: (
        # Three pieces of a line: the slope inside [-1, 1] is another.
        15.6 * (y - x - (-1.142857 * x if abs(x) < 1 else -0.71429 * x - 0.428567 * np.sign(x))),
        x - y + z,
        -28 * y,
    ),
}


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def test_the_fields_and_the_starts():
    assert [flow.name for flow in flows.FLOWS] == sorted(SPEEDS)
    states = jnp.concatenate([jnp.array([[0.3, -0.2, 0.7]]), jnp.zeros((1, 3))])
    for which, flow in enumerate(flows.FLOWS):
        for point in (*np.asarray(states), np.array(flow.start)):
            expected = SPEEDS[flow.name](*point)
            np.testing.assert_allclose(flows.velocity(which, point), expected, rtol=1e-9, atol=1e-9)
        after, _ = flows.follow(which, jnp.array([flow.start]), None)
        expected = np.array(flow.start) + 0.01 * np.array(SPEEDS[flow.name](*flow.start))
        np.testing.assert_allclose(after[0], expected, rtol=1e-9)
        starts = flows.starts_of(flow)
        np.testing.assert_array_equal(starts[0], flow.start)
        assert len({tuple(start) for start in np.asarray(starts)}) == len(starts)
        np.testing.assert_allclose(starts, np.broadcast_to(starts[0], starts.shape), rtol=1e-12)


def test_an_observer_is_told_and_pulled():
    gains = np.array([0.5, -1.0, 2.0])
    params = flows.Watching(3, np.array([False, True, False]), gains)
    seen, told = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 7.0])
    mixed = np.array([1.0, 5.0, 3.0])
    error = gains @ (told - mixed)
    expected = mixed + 0.01 * (np.array(SPEEDS["Lorenz"](*mixed)) + gains * error)
    np.testing.assert_allclose(flows.observe(params, jnp.array(seen), jnp.array(told))[0], expected)


def test_an_observer_reads_the_states_of_its_flow(monkeypatch):
    monkeypatch.setattr(flows, "LENGTH", 40)
    for which in (3, 5):
        flow = flows.FLOWS[which]
        params, start, xs = flows.observer(which, jnp.array([flow.start]))
        assert xs.shape == (40, 1, 3)
        state = np.array(flow.start)
        for x in np.asarray(xs)[:, 0]:
            np.testing.assert_allclose(x, state, rtol=1e-9)
            state = state + 0.01 * np.array(SPEEDS[flow.name](*state))
        assert 0.1 < np.abs(start[0] - np.array(flow.start)).max() < 5
        assert list(np.flatnonzero(params.replaced)) == list(flow.replaced)


def test_exponents_at_a_tenth_of_the_length_are_those_of_one_tangent(monkeypatch):
    """Lorenz by hand: the mean log growth of a tangent, which is kept at length one."""
    monkeypatch.setattr(flows, "LENGTH", 3000)
    monkeypatch.setattr(flows, "FLOWS", flows.FLOWS[3:4])
    (row,) = flows.exponents()
    state, tangent, growth = np.array(flows.FLOWS[0].start), np.ones(3) / 3**0.5, 0.0
    for _ in range(3000):
        x, y, z = state
        jacobian = np.array([[-10, 10, 0], [28 - z, -1, -x], [y, x, -8 / 3]])
        tangent = tangent + 0.01 * jacobian @ tangent
        state = state + 0.01 * np.array(SPEEDS["Lorenz"](*state))
        size = np.linalg.norm(tangent)
        tangent, growth = tangent / size, growth + np.log(size)
    assert row.what == "Lorenz"
    np.testing.assert_allclose(row.ours, growth / 30, atol=0.1)  # of another first direction
    assert row.range[0] <= row.ours <= row.range[1]


def test_the_table_is_found_again(monkeypatch):
    """From the published starts alone, four of which are decided by a CPU's rounding."""
    monkeypatch.setattr(flows, "ROUNDING", flows.ROUNDING[:1])
    names = ("chaotic-flows", "observers", "observers-newton")
    exponents, observers, steps = rx.published.reproduce(names)
    for found in (exponents, observers, steps):
        assert [row.what for row in found.rows] == sorted(SPEEDS)
    for row in (*exponents.rows, *observers.rows):
        rounding = row.what in ("ABC", "Lorenz", "Sprott B", "Vallis El Nino")
        assert abs(row.ours - row.published) < (0.15 if rounding else 0.02), row
    assert [row.published for row in steps.rows] == [3, 14, 2, 3, 3, 7, 2, 7, 3]
    assert [row.verdict for row in steps.rows] == 9 * ["agrees"]


def test_steps_on_the_flows_themselves(monkeypatch):
    """Each step makes right one more state at least, so T of them are enough; few are not."""
    monkeypatch.setattr(flows, "LENGTH", 300)
    monkeypatch.setattr(flows, "FLOWS", tuple(flows.FLOWS[which] for which in (1, 3)))
    chua, lorenz = flows.steps_on_flows()
    assert (chua.published, lorenz.published) == (697, 30_000)
    assert 3 < chua.ours < lorenz.ours < 300
    assert (chua.range, chua.tolerance) == (None, "a factor of 10")
    assert chua.note == f"{chua.ours / 697:.2g} times theirs; only magnitudes are compared"
