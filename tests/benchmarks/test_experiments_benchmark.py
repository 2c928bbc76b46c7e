"""The benchmark's own parts; the experiments themselves take long."""

from __future__ import annotations

from benchmarks.experiments import text


def trial(median: object, horizon: object) -> dict:
    final = {"median": median, "range": [0.5, median]}
    seen = {"horizon": {"median": horizon}}
    summary = {"seeds": 3, "solved": 2, "solved_at_end": 1, "start": seen, "end": seen}
    summary["final"] = {"mse": final, "loss": final}
    return {"cell": "elman", "cure": "clip", "summary": summary}


def test_a_row_for_each_pair():
    found = {
        "recurrax": "0.1.0",
        "jax": "1.2",
        "goal": ["mse", "<", 0.01],
        "baseline": {"mse": 0.1667, "loss": 0.1667},
        "length": 20,
        "trials": [trial(0.75, 12), trial("inf", "inf"), trial(0.25, None)],
    }
    lines = text({"adding": found}, "2026-01-31").splitlines()
    assert "wrote this on 2026-01-31, recurrax 0.1.0, jax 1.2" in lines[0]
    guess = "a guess without memory has mse 0.1667 and loss 0.1667"
    assert lines[2] == f"- adding: T = 20; solved at mse < 0.01; {guess}"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[-3:]]
    common = ["adding", "elman", "clip", "2 of 3", "1 of 3"]
    assert rows == [
        [*common, "mse 0.75 (0.5 to 0.75)", "0.75", "12 to 12"],
        [*common, "mse diverged (0.5 to diverged)", "diverged", "no end to no end"],
        [*common, "mse 0.25 (0.5 to 0.25)", "0.25", "unknown to unknown"],
    ]
