"""A process that is killed, again and again, ends as one that never was."""

from __future__ import annotations

import random
import signal
import time

import jax
import numpy as np
import pytest
from train.process import LONG, answers, start
from train.small import bits, fit

KILLS = 20


def last_step(path) -> int:
    """Of the last whole line of the history."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return int(lines[-1].split(":")[1].split(",")[0]) if lines else 0


@pytest.mark.slow
def test_twenty_kills(tmp_path):
    draw = random.Random(0)
    reached = []
    for number in range(KILLS):
        history = tmp_path / "history.jsonl"
        before = history.stat().st_mtime_ns if history.exists() else 0
        process = start("long", directory=str(tmp_path))
        if number % 7 == 3:  # while it starts, or reads
            time.sleep(draw.uniform(0, 1))
        else:
            # Until it trains, and some steps more: on a fast machine a time would be all of them.
            goal = (reached or [0])[-1] + draw.choice([1, 30, 60, 90])
            while process.poll() is None:
                now = history.stat().st_mtime_ns if history.exists() else 0
                if now != before and last_step(history) >= goal:
                    break
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"
        reached.append(last_step(history))
    assert answers(start("long", directory=str(tmp_path))) == [LONG["steps"]]
    assert len(set(reached)) > KILLS // 2, reached
    whole = fit(**LONG)
    with np.load(tmp_path / "found.npz") as found:
        ends = [found[name].tobytes() for name in found.files]
    assert ends == [bits(leaf) for leaf in jax.tree.leaves((whole.params, whole.opt_state))]
    assert last_step(tmp_path / "history.jsonl") == LONG["steps"]
