"""Real-time recurrent learning, as the claim has it."""

from __future__ import annotations

import jax

import recurrax as rx
from recurrax.published.memory import real_time


def test_it_agrees_and_another_gradient_does_not(monkeypatch):
    (found,) = rx.published.reproduce(["rtrl"])
    assert [row.verdict for row in found.rows] == ["agrees"]
    right = real_time._real_time
    monkeypatch.setattr(real_time, "_real_time", lambda *arguments: right(*arguments) * (1 + 1e-4))
    (found,) = rx.published.reproduce(["rtrl"])
    assert [row.verdict for row in found.rows] == ["differs"]
    assert 0.9e-4 < found.rows[0].ours < 1.1e-4
    assert jax.config.jax_enable_x64 is False
