"""The benchmark's own parts, on made-up numbers and at a size that takes little time."""

from __future__ import annotations

import json
import math
import sys

import jax
import numpy as np
import pytest
from benchmarks import lyapunov_peers, microscope
from benchmarks.comparing import Asked, Figure, Outcome, in_turn, ratios, table
from benchmarks.markers import replace_between
from benchmarks.microscope import MARKERS, Run, results_text, story
from benchmarks.microscope_figures import FIGURES, Sizes

import recurrax as rx

BEGIN, END = MARKERS

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
TINY = Sizes(
    networks=((6, 0.9),),
    steps=40,
    hidden_8=6,
    length_8=12,
    length=12,
    hidden=3,
    batches=(2,),
    kinds=("elman",),
    trained=(("elman", 3),),
    train_length=4,
    train_batch=2,
    train_steps=101,
)


def made_up():
    """Two networks with one asked figure, met by one of them; a peer that is missing."""
    spectrum = "spectrum: the peer over ours"
    note = "lyapax missing: No module named 'lyapax'"
    return [
        Outcome(
            "small",
            [Figure(spectrum, "g = 3", Asked(3, aim=6), [2.0, 4.0, 5.0])],
            {"ours": [0.1, 0.2, 0.3], "the peer": [1.0, 2.0, 3.0]},
            {"ours": 1.5, "the peer": -0.01},
            [note],
            [],
        ),
        Outcome(
            "large",
            [
                Figure(spectrum, "g = 1", Asked(3, aim=6), [1.0, 2.0, 2.5]),
                Figure("not there", "", Asked(most=64), []),
            ],
            {"ours": [0.1]},
            {"ours": 0.0},
            [note],
            ["the peer"],
        ),
    ]


def figures():
    return [figure for outcome in made_up() for figure in outcome.figures]


def test_what_is_asked_is_a_bound_on_the_median():
    assert [figure.met for figure in figures()] == [True, False, False]
    assert Figure("", "", Asked(most=1.1), [1.0, 1.05, 9.0]).met
    assert not Figure("", "", Asked(most=1.1), [1.0, 1.2, 9.0]).met
    assert [str(f.asked) for f in figures()[1:]] == ["at least 3, aim 6", "at most 64"]
    assert str(Asked(1.3)) == "at least 1.3"


def test_a_table_has_a_row_for_each_name_and_nothing_is_left_out():
    head, rule, *rows = table(figures())
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (head, *rows)]
    assert cells == [
        ["time of one over another", "asked", "measured", "range"],
        [figures()[0].name, "at least 3, aim 6", "g = 3 4.00, g = 1 2.00", "1.00 to 5.00"],
        ["not there", "at most 64", "not measured", ""],
    ]
    assert len({len(line) for line in (head, rule, *rows)}) == 1


def test_sides_are_timed_in_turn_and_compilation_apart():
    asked = []

    def side(name):
        asked.append(name)
        return jax.numpy.ones(2)

    results, seconds, compiled = in_turn({n: lambda n=n: side(n) for n in ("a", "b")}, 2)
    assert asked[:2] == ["a", "b"]
    assert list(dict.fromkeys(asked[::-1])) == ["a", "b"]  # the second round began with b
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    assert set(compiled) == set(results) == {"a", "b"}
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_the_story_says_who_is_missing_who_is_wrong_and_what_is_not_as_asked():
    text = story(Run(made_up(), FACTS))
    assert "\n  the peer: 2000 ms, the first call -0.01 s\n" in text
    assert "\n  lyapax missing: No module named 'lyapax'\n" in text
    assert "\n  DISAGREES: the peer\n" in text
    assert "\nnot as asked: spectrum: the peer over ours g = 1\nnot as asked: not there" in text
    assert "g = 3\nnot" not in text
    assert "all figures are as asked" in story(Run([made_up()[0]], FACTS))
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
    assert text.startswith(f"above\n\n{BEGIN}\n`python -m tests.benchmarks.microscope --results`")
    assert text.endswith(f"\n- lyapax missing: No module named 'lyapax'\n{END}\n\nbelow\n")
    assert text.count(BEGIN) == text.count(END) == text.count("- lyapax missing") == 1
    assert "old" not in text
    assert "wrote this on 2026-01-31" in text


@pytest.mark.parametrize("text", ["no markers", f"{END}\n{BEGIN}", BEGIN])
def test_a_file_without_markers_is_left_alone(tmp_path, monkeypatch, text):
    path = tmp_path / "RESULTS.md"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(microscope, "RESULTS", path)
    with pytest.raises(SystemExit, match=r"RESULTS\.md needs the lines <!-- microscope: begin -->"):
        microscope.main(["--results"])  # before anything is measured
    assert path.read_text(encoding="utf-8") == text


def test_rounds_are_positive(capsys):
    with pytest.raises(SystemExit):
        microscope.main(["--rounds", "0"])
    assert "--rounds must be 1 or more, got 0" in capsys.readouterr().err


def test_differences_are_seen_in_any_order_and_nan_is_no_agreement():
    expected = np.arange(10.0)[::-1]
    assert lyapunov_peers.differences(np.arange(10.0), expected) == (0, 0)
    assert lyapunov_peers.differences(expected - 0.5 * (expected == 0), expected) == (0, 0.5)
    assert lyapunov_peers.differences(np.full(10, np.nan), expected) == (math.inf, math.inf)


@pytest.mark.usefixtures("x64")
def test_the_reference_is_exact_for_a_linear_network():
    net = lyapunov_peers.network(5, 1e-6, 30)  # so small a gain that tanh x is x
    q = np.linalg.qr(np.asarray(net.directions))[0]
    rotation = net._replace(matrix=jax.numpy.asarray(0.5 * q), start=0 * net.start)
    found = lyapunov_peers.reference(rotation)
    np.testing.assert_allclose(found, np.full(5, np.log(0.5)), atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_wide_interval_is_taken_only_if_it_is_as_accurate():
    pytest.importorskip("lyapax")
    net = lyapunov_peers.network(6, 0.9, 40)
    expected = lyapunov_peers.reference(net)
    assert lyapunov_peers.lyapax_interval(net, expected, 1e-3) > 1
    assert lyapunov_peers.lyapax_interval(net, expected, 0.0) == 1


def test_a_peer_that_cannot_be_imported_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "chaotax", None)
    monkeypatch.setitem(sys.modules, "lyapax", None)
    (outcome,) = FIGURES["lyapunov"](TINY, 1)
    assert list(outcome.seconds) == ["recurrax"]
    assert [note.split(":")[0] for note in outcome.notes[:2]] == [
        "chaotax missing",
        "lyapax missing",
    ]
    assert [figure.ratios for figure in outcome.figures] == [[], []]
    assert not outcome.wrong


def test_peers_agree():
    for name in ("chaotax", "lyapax"):
        pytest.importorskip(name)
    (outcome,) = FIGURES["lyapunov"](TINY, 1)
    assert len(outcome.seconds) == 5
    assert outcome.wrong == []
    documented, compiled = outcome.figures
    assert min(documented.ratios + compiled.ratios) > 0


@pytest.mark.parametrize("name", ["lstm8", "lags_last", "lags_all", "map", "watch"])
def test_the_sides_of_a_figure_agree(name):
    (outcome,) = FIGURES[name](TINY, 1)
    assert outcome.wrong == []
    assert [len(figure.ratios) for figure in outcome.figures] == [1] * len(outcome.figures)
    assert set(outcome.compile) == set(outcome.seconds)


def test_a_side_that_finds_other_numbers_is_wrong(monkeypatch):
    right = rx.flow.gradient_map

    def shifted(*args, **options):
        found = right(*args, **options)
        return found._replace(log_norm=found.log_norm + 0.1)

    monkeypatch.setattr(rx.flow, "gradient_map", shifted)
    assert FIGURES["map"](TINY, 1)[0].wrong == ["called"]


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    path, numbers = tmp_path / "RESULTS.md", tmp_path / "numbers.json"
    path.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    monkeypatch.setattr(microscope, "RESULTS", path)
    wrong = Outcome("a", [Figure("a over b", "", Asked(2), [3.0])], {}, {}, [], [])
    monkeypatch.setitem(FIGURES, "map", lambda sizes, rounds: [wrong])
    options = ["--only", "map", "--quick", "--results", "--json", str(numbers)]
    microscope.main(options)
    assert "all figures are as asked" in capsys.readouterr().out
    assert "| a over b" in (written := path.read_text(encoding="utf-8"))
    raw = json.loads(numbers.read_text(encoding="utf-8"))
    assert raw["outcomes"][0]["figures"][0]["ratios"] == [3.0]
    wrong.wrong.append("b")
    with pytest.raises(SystemExit, match=r"not all sides agree, RESULTS\.md is as it was"):
        microscope.main(options)
    assert path.read_text(encoding="utf-8") == written
