"""The benchmark's own parts, on made-up numbers and at a size that takes little time."""

from __future__ import annotations

import importlib.util
import json
import math
import sys

import numpy as np
import pytest
from benchmarks import training
from benchmarks.markers import replace_between
from benchmarks.peers import PEERS, Case, Server, problem, reference
from benchmarks.training import (
    MARKERS,
    Result,
    Run,
    best,
    find,
    geomean,
    judge,
    judge_gradients,
    notes,
    ratio,
    results_text,
    shape,
    story,
    summary,
    table,
)

BEGIN, END = MARKERS

SMALL, LARGE = Case("lstm", 5, 2, 3, 4), Case("lstm", 50, 2, 3, 4)
FACTS = {
    "cpu": "a processor",
    "cores": 2,
    "platform": "a platform",
    "python": "3.11.0",
    "date": "2026-01-31",
    "rounds": 3,
    "load": [0.1, 1.2],
    "backend": "cpu (cpu)",
    "versions": {"jax": "0.10.2"},
}


def timed(case, peer, gradient, forward=(1.0, 1.0, 1.0), status="agrees", **known):
    return Result(case, peer, status, gradient=list(gradient), forward=list(forward), **known)


def made_up():
    """flax is the best at the small shape, haiku at the large one; keras is fast and wrong."""
    return [
        timed(SMALL, "recurrax", (1, 2, 4), temp=100, temp_remat=50, compile=3.0),
        timed(SMALL, "recurrax-scan", (1, 1, 1), compile=1.5),
        timed(SMALL, "flax.linen", (2, 5, 6), (3, 4, 5), temp=200),
        timed(SMALL, "haiku", (9, 9, 9), (0.5, 0.7, 9), "other", reason="another"),
        timed(SMALL, "keras", (0.1, 0.1, 0.1), status="disagrees", reason="wrong"),
        timed(SMALL, "torch", (3, 2, 2)),
        timed(LARGE, "recurrax", (1, 1, 1), temp=100, temp_remat=25, compile=1.0),
        timed(LARGE, "recurrax-scan", (1, 1, 1), compile=2.0),
        timed(LARGE, "flax.linen", (9, 9, 9), (4, 4, 4), temp=800),
        timed(LARGE, "haiku", (8, 8, 8), (2, 2, 2), "other", reason="another"),
        Result(SMALL, "equinox", "missing", "No module named 'equinox'"),
        Result(LARGE, "equinox", "missing", "No module named 'equinox'"),
    ]


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds():
    assert ratio(made_up(), SMALL, "flax.linen", "gradient") == 2.0  # of 2, 2.5 and 1.5
    assert ratio(made_up(), SMALL, "equinox", "gradient") is None
    assert ratio(made_up(), LARGE, "torch", "gradient") is None


def test_the_best_is_another_jax_library_that_is_not_wrong():
    assert best(made_up(), SMALL, "gradient") == ("flax.linen", 2.0)
    assert best(made_up(), SMALL, "forward") == ("haiku", 0.7)
    assert best(made_up(), LARGE, "gradient") == ("haiku", 8.0)
    assert best(made_up()[:2], SMALL, "gradient") is None


def test_the_summary_of_a_cell():
    s = summary(made_up(), "lstm")
    assert (s.gradient, s.forward, s.torch) == ([2.0, 8.0], [0.7, 2.0], [1.0])
    assert (s.memory, s.memory_remat, s.compile) == ([0.5, 0.125], [0.25, 0.03125], [2.0, 0.5])
    assert math.isclose(geomean(s.gradient), 4.0)
    assert math.isnan(geomean([]))


def test_a_table_has_a_row_for_each_shape_and_a_column_for_each_peer_that_was_timed():
    head, rule, small, large = table(made_up(), "lstm", "gradient")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (head, small, large)]
    peers = ["recurrax-scan", "flax.linen", "haiku", "keras", "torch"]
    assert cells[0] == ["T x B x I x H", "recurrax, ms", *peers, "best JAX"]
    assert cells[1][:4] == ["5x2x3x4", "2e+03", "0.50", "2.00"]
    assert cells[1][4:] == ["4.50*", "0.05!", "1.00", "flax.linen 2.00"]
    assert cells[2][4:] == ["8.00*", "", "", "haiku 8.00"]
    assert len({len(line) for line in (head, rule, small, large)}) == 1


def test_nobody_is_left_out_silently():
    assert notes(made_up()) == [
        "* haiku (lstm) other: another",
        "keras (lstm 5x2x3x4) disagrees: wrong",
        "equinox (lstm) missing: No module named 'equinox'",
    ]
    text = story(Run(made_up(), FACTS))
    assert "\nequinox (lstm) missing: No module named 'equinox'\n" in text
    assert "best other JAX library over recurrax: 4.00 (2.00 to 8.00)\n" in text
    assert "the smallest 0.70\n" in text
    assert "recurrax over flax.linen: 0.25 (0.12 to 0.50), with remat" in text
    assert "busy" not in text
    assert "busy" in story(Run(made_up(), FACTS | {"load": [1.5, 1.5]}))


def test_the_results_are_written_between_its_markers(tmp_path):
    path = tmp_path / "RESULTS.md"
    path.write_text(f"above\n\n{BEGIN}\nold\n{END}\n\nbelow\n", encoding="utf-8")
    replace_between(path, MARKERS, None)
    assert "old" in path.read_text(encoding="utf-8")
    for _ in range(2):
        replace_between(path, MARKERS, results_text(Run(made_up(), FACTS)))
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"above\n\n{BEGIN}\n`python -m tests.benchmarks.training --results`")
    assert text.endswith(f"\n{END}\n\nbelow\n")
    assert text.count(BEGIN) == text.count(END) == 1
    assert "old" not in text
    assert "| LSTM | 4.00 (2.00 to 8.00)" in text
    assert "| GRU" not in text
    assert "on 2026-01-31" in text
    assert "- keras (lstm 5x2x3x4) disagrees: wrong" in text


@pytest.mark.parametrize("text", ["no markers", f"{END}\n{BEGIN}", BEGIN])
def test_a_file_without_markers_is_left_alone(tmp_path, text):
    path = tmp_path / "RESULTS.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"RESULTS\.md needs the lines <!-- training: begin -->"):
        replace_between(path, MARKERS, "new")
    assert path.read_text(encoding="utf-8") == text


def test_a_shape_is_four_sizes():
    assert shape("100x32x64x128") == (100, 32, 64, 128)
    for wrong in ("100x32x64", "100x32x64x0"):
        with pytest.raises(training.argparse.ArgumentTypeError, match="TxBxIxH"):
            shape(wrong)


def judged(case, ys, other="", value=None):
    given, expected = problem(case), reference(case, problem(case), other)
    value = float((expected * given.w).sum()) if value is None else value
    result = Result(case, "a peer", "ok")
    judge(result, {"ys": ys.astype(np.float32), "value": value, "other": other}, given, expected)
    return result.status


def test_numbers_are_compared():
    case = Case("gru", 5, 2, 3, 4)
    ys, first = (reference(case, problem(case), other) for other in ("", "reset_first"))
    assert judged(case, ys) == "agrees"
    assert judged(case, first) == "disagrees"  # the two GRUs are told apart
    assert judged(case, first, "reset_first") == "other"
    assert judged(case, first, "no_b_n") == "disagrees"
    assert judged(case, ys, value=1.0) == "disagrees"
    assert judged(case, ys, value=float("nan")) == "disagrees"
    assert judged(case, ys.swapaxes(0, 1)) == "disagrees"


def test_the_norms_of_the_gradients_are_compared():
    results = [timed(SMALL, name, (), d_w_rec=d) for name, d in (("recurrax", 1.0), ("a", 1.001))]
    results += [timed(SMALL, name, (), d_w_rec=d) for name, d in (("b", 1.1), ("c", float("nan")))]
    results += [timed(SMALL, "d", (), status="other", d_w_rec=7.0)]
    judge_gradients(results)
    assert [r.status for r in results] == ["agrees", "agrees", "disagrees", "disagrees", "other"]


def test_a_library_that_cannot_be_imported_is_missing(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "")  # put back what the server sets
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "")
    monkeypatch.setitem(sys.modules, "flax", None)
    status, reason = Server(PEERS["flax.linen"]).answer("start")
    assert status == "missing"
    assert "flax" in reason


def test_processes_are_asked_in_turn_and_agree(tmp_path, monkeypatch, capsys):
    path, numbers = tmp_path / "RESULTS.md", tmp_path / "numbers.json"
    path.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    monkeypatch.setattr(training, "RESULTS", path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    absent = [n for n, p in PEERS.items() if importlib.util.find_spec(p.modules[0]) is None][:1]
    peers = ["recurrax-scan", "jax.experimental.rnn", *absent]
    options = ["--cells", "lstm", "--shapes", "5x2x3x4", "--rounds", "1", "--results"]
    training.main([*options, "--peers", *peers, "--json", str(numbers)])
    assert "LSTM, forward alone: time over recurrax's" in (printed := capsys.readouterr().out)
    assert "jax.experimental.rnn (lstm) missing: " in printed
    for name in absent:
        assert f"{name} (lstm) missing: No module named" in printed
    raw = json.loads(numbers.read_text(encoding="utf-8"))
    results = [Result(**{**r, "case": Case(**r["case"])}) for r in raw["results"]]
    for name in ("recurrax", "recurrax-scan"):
        result = find(results, SMALL, name)
        assert result.status == "agrees"
        assert result.compile > 0
        assert (len(result.forward), len(result.gradient)) == (1, 1)
    assert "| LSTM | not measured" in path.read_text(encoding="utf-8")  # no peer was there
