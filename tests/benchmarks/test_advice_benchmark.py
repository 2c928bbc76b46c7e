"""The benchmark's own parts; the training takes long."""

from __future__ import annotations

from benchmarks.advice import text, won


def start(name, final=None, solved=(False, False, False)):
    """An option of three seeds; without a final metric it was not trained."""
    trial = None
    if final is not None:
        trial = {"metric": "mse", "final": final, "loss": final, "solved": list(solved), "steps": 9}
    seen = {"horizon": ["inf", 7, "inf"], "rate": [0.01, -0.02, 0.03], "spread": [1, 2, 3]}
    return {
        **{"name": name, "start": seen | {"gradient_norm": [0.5, 0.25, 1]}, "distance": 1.5},
        "trial": trial,
    }


def case(*starts):
    return {
        **{"recurrax": "0.1.0", "jax": "1.2", "cell": "lstm", "task": "adding", "length": 20},
        **{"goal": ["mse", "<", 0.01], "baseline": {"mse": 0.1667, "loss": 0.1667}},
        "options": {"hidden": 8, "seeds": 3, "steps": 9, "rate": 0.5, "batch": 2},
        "starts": starts,
    }


def test_a_seed_counts_if_it_solves_or_comes_nearer():
    first = {"solved": [True, False, False, False], "final": [0.02, 0.1, 0.3, "inf"]}
    default = {"solved": [False] * 4, "final": [0.01, 0.2, 0.2, "inf"]}
    assert won(first, default, "<", False) == [True, True, False, False]
    assert won(first, default, ">", False) == [True, False, True, False]
    assert won(first, first, "<", True) == [True, False, False, False]


def test_the_outcome_and_a_row_for_each_start():
    first = start("chrono", [0.005, 0.1, "inf"], [True, False, False])
    default = start("default", [0.2, 0.2, 0.2])
    lines = text([case(first, default, start("gain"))], "2026-01-31").splitlines()
    assert "wrote this on 2026-01-31, recurrax 0.1.0, jax 1.2: H = 8, 3 seeds, 9 steps" in lines[0]
    assert lines[2] == (
        "- lstm, adding, T = 20, solved at mse < 0.01 (a guess without memory 0.1667): chrono is "
        "put first; it solves, or comes nearer than the default, in 2 of 3 seeds; it "
        "solves 1, the default 0, fewer than the 4 that are asked"
    )
    assert "- elman-copying: was not run" in lines
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[-3:]]
    seen = ["no end", "+0.0100", "2.00", "0.5", "1.5"]
    assert rows == [
        ["lstm, adding", "chrono", *seen, "1 of 3 by 9", "mse 0.1 (0.005 to diverged)", "0.1"],
        ["lstm, adding", "default", *seen, "0 of 3 by 9", "mse 0.2 (0.2 to 0.2)", "0.2"],
        ["lstm, adding", "gain", *seen, "", "", ""],
    ]


def test_a_default_that_is_put_first_wins_only_by_solving():
    default = start("default", [0.005, 0.1, 0.2], [True, False, False])
    (line,) = text([case(default)], "2026-01-31").splitlines()[2:3]
    assert "default is put first; it is the default itself, and solves" in line
    assert "in 1 of 3 seeds; it solves 1, the default 1" in line
    (line,) = text([case(start("gain"), default)], "2026-01-31").splitlines()[2:3]
    assert line.endswith("gain is put first; it and the default were not both trained")
