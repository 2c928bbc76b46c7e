"""Memory capacity, as the claim has it."""

from __future__ import annotations

import recurrax as rx
from recurrax.published.memory import memory_capacity


def test_it_is_the_number_of_units_at_any_size(monkeypatch):
    for size in (20, 7):
        monkeypatch.setattr(memory_capacity, "STEPS", 20_000)
        monkeypatch.setattr(memory_capacity, "SIZE", size)
        (found,) = rx.published.reproduce(["memory-capacity"])
        (row,) = found.rows
        assert (row.published, row.verdict) == (size, "agrees")


def test_too_few_delays_differ(monkeypatch):
    monkeypatch.setattr(memory_capacity, "DELAYS", 15)
    monkeypatch.setattr(memory_capacity, "STEPS", 5_000)
    (found,) = rx.published.reproduce(["memory-capacity"])
    assert found.rows[0].verdict == "differs"
    assert 10 < found.rows[0].ours < 15.5
