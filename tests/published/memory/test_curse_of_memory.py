"""The curse of memory, as the claim has it."""

from __future__ import annotations

import numpy as np

import recurrax as rx
from recurrax.published.memory import curse_of_memory


def test_all_agree():
    (found,) = rx.published.reproduce(["curse-of-memory"])
    assert [row.verdict for row in found.rows] == 6 * ["agrees"]
    published = [1.3333, 2.9630, 5.2632, 263.89, 50.251, 251263]
    np.testing.assert_allclose([row.published for row in found.rows], published, rtol=3e-5)


def test_a_sequence_that_has_not_settled_differs(monkeypatch):
    monkeypatch.setattr(curse_of_memory, "STEPS", 300)
    monkeypatch.setattr(curse_of_memory, "SETTLING", 0)
    curse_of_memory._mean_squares.clear_cache()
    try:
        (found,) = rx.published.reproduce(["curse-of-memory"])
    finally:
        curse_of_memory._mean_squares.clear_cache()
    assert [row.verdict for row in found.rows[-2:]] == ["differs", "differs"]
