"""The exponents and singular values of linear networks, as the claim has them."""

from __future__ import annotations

import numpy as np
import pytest

import recurrax as rx
from recurrax.published.exponents import linear_maps


def rows():
    (found,) = rx.published.reproduce(["linear-networks"])
    return {row.what: row for row in found.rows}


def test_all_agree():
    found = rows()
    assert {row.verdict for row in found.values()} == {"agrees"}
    assert found["W: first exponent"].published == pytest.approx(np.log(0.97))


def test_a_product_in_the_wrong_order_differs(monkeypatch):
    """Going back through the three, A C B, has other eigenvalues; one matrix has no order."""
    right = linear_maps.one_of
    monkeypatch.setattr(
        linear_maps, "one_of", lambda matrices, state, x: right(matrices, state, -x % 3)
    )
    found = rows()
    differing = [what for what, row in found.items() if row.verdict == "differs"]
    assert differing == [
        "A, B, C in turn: first exponent",
        "A, B, C in turn: exponents, largest error",
    ]
    assert all(found[what].verdict == "agrees" for what in found if what not in differing)
