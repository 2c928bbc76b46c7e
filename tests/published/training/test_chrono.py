"""Chrono's copying in a budgeted form."""

from __future__ import annotations

import jax
import numpy as np

from recurrax.published.training import chrono


def test_the_two_networks_differ_in_the_biases_of_two_gates_alone():
    cells = chrono.cells(10)
    standard, ours = (cell.init(jax.random.key(0)) for cell in cells.values())
    assert list(cells) == ["standard", "chrono"]
    assert standard.w_rec.shape == (128, 512)
    for name in ("w_in", "w_rec"):
        np.testing.assert_array_equal(getattr(standard, name), getattr(ours, name))
    i, f, g, o = np.asarray(ours.b).reshape(4, 128)
    remembered = np.exp(f)
    assert 1 <= remembered.min() < 3
    assert 145 < remembered.max() <= 149  # T_max - 1, of T_max = 150
    np.testing.assert_allclose(i, -f, rtol=1e-6)
    np.testing.assert_array_equal([g, o], 0)
    expected = np.repeat([0, 1, 0, 0], 128)
    np.testing.assert_array_equal(standard.b, expected)


def test_a_short_run_gives_rows(monkeypatch):
    for name, value in {"LAG": 4, "UNITS": 4, "SEEDS": 2, "UPDATES": 2, "BATCH": 2}.items():
        monkeypatch.setattr(chrono, name, value)
    standard, begun, ratio = chrono.losses_beside_a_guess()
    assert (standard.verdict, begun.verdict) == ("not comparable", "not comparable")
    for row in (standard, begun):
        assert 0 < row.range[0] <= row.ours <= row.range[1]
    assert ratio.verdict == ("agrees" if ratio.range[0] > 1 else "differs")
    assert ratio.tolerance == "chrono is ahead"
    # Of two seeds a ratio is between those of the extremes.
    assert standard.range[0] / begun.range[1] <= ratio.range[0]
    assert ratio.range[1] <= standard.range[1] / begun.range[0]
