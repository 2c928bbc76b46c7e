"""What a guess reaches, as the claim has it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import recurrax as rx
from recurrax.published import baselines


def test_all_agree():
    (found,) = rx.published.reproduce(["baselines"])
    assert {row.verdict for row in found.rows} == {"agrees"}
    waits = [row for row in found.rows if row.what.startswith("copying") and "cross" in row.what]
    exact = [10 * np.log(8) / (wait + 20) for wait in (100, 300, 500, 1000)]
    np.testing.assert_allclose([row.ours for row in waits], exact, rtol=1e-5)
    np.testing.assert_allclose([row.published for row in waits], exact, rtol=2e-4)


def test_who_remembers_is_told_from_who_guesses(monkeypatch):
    """The answers themselves, at all but the copy's last symbol."""

    def knows(batch):
        known = jnp.arange(len(batch.xs))[:, None, None] < len(batch.xs) - 1
        right = 1e4 * jnp.eye(9)[batch.targets]
        return jnp.where(known, right, 0.0)

    monkeypatch.setattr(baselines, "_waiting_and_guessing", knows)
    monkeypatch.setattr(baselines, "WAITS", baselines.WAITS[:1])
    monkeypatch.setattr(baselines, "SEQUENCES", 10)
    (found,) = rx.published.reproduce(["baselines"])
    assert [row.verdict for row in found.rows[-2:]] == ["differs", "differs"]
    assert found.rows[-2].ours < 0.02
