"""What a guess without memory reaches on each task, on drawn sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import tasks
from recurrax.published.claim import Claim, absolute, compared, relative

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.published.claim import Row

STEPS, SEQUENCES = 20, 100_000
WAITS = ((100, 0.17329), (300, 0.06498), (500, 0.03999), (1000, 0.020387))  # 10 ln 8 / (T + 20)


def baselines() -> Iterator[Row]:
    """Draw sequences, answer as somebody without memory would, and judge by the task's loss."""
    for task, guess, expected in (
        (tasks.adding(STEPS), 1.0, 1 / 6),
        (tasks.multiplication(STEPS), 0.25, 7 / 144),
    ):
        found = _judged(task, SEQUENCES, lambda batch, guess=guess: guess + 0 * batch.targets)
        yield compared(f"{task.name}: squared error", expected, found["loss"], relative(0.02))
    task = tasks.temporal_order(STEPS)
    found = _judged(task, SEQUENCES, lambda batch: batch.xs[..., 2:])  # the distractors
    yield compared("temporal order: accuracy", 0.25, found["accuracy"], absolute(0.01))
    for wait, published in WAITS:
        loss = _judged(tasks.copying(wait), 10, _waiting_and_guessing)["loss"]
        yield compared(f"copying, T = {wait}: cross-entropy", published, loss, absolute(1e-5))
    note = "a trained LSTM, which is no better than the guess"
    yield compared("copying, T = 1000: Bai's LSTM", 0.0204, loss, absolute(5e-5), note)


def _judged(task: Any, size: int, answer: Any) -> dict[str, Any]:
    """The task's loss and metrics of `answer(batch)`."""

    @jax.jit
    def judge(key: Any) -> dict[str, Any]:
        batch = task.draw(key, size)
        outputs = answer(batch)
        return {"loss": task.loss(outputs, batch), **task.metrics(outputs, batch)}

    found: dict[str, Any] = judge(jax.random.key(0))
    return found


def _waiting_and_guessing(batch: Any) -> Any:
    """Sure of a blank until the copy is due, then any symbol alike."""
    blank = jnp.arange(9) == 8
    due = jnp.arange(len(batch.xs)) >= len(batch.xs) - 10
    sure = jnp.where(due[:, None] == blank, -1e9, 0.0)
    return jnp.broadcast_to(sure[:, None], (*batch.targets.shape, 9))


BASELINES = Claim(
    "baselines",
    "what a guess without memory reaches on the tasks",
    "derived: variances and entropies (exact); Bai et al. (2018), Table 1 (the LSTM)",
    f"T = {STEPS}, {SEQUENCES:,} sequences, tolerances of about 5 standard errors; copying exact",
    baselines,
)
