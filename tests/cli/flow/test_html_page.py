"""`--report`: every question in one page, with its numbers; `--compare`: two sets of weights."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

import recurrax as rx
from recurrax.cli import run
from recurrax.cli.console import plain
from recurrax.cli.data.read import Sequences
from recurrax.cli.flow.html_page import Results, page_of
from recurrax.cli.flow.measurement import Measurement, difference
from recurrax.cli.flow.questions import ANSWERED, LEFT_TO_CODE, Case, growth_in_words

SMALL = ["flow", "--hidden", "3", "--batch", "2", "--length", "6"]
QUESTIONS = [
    "report",
    "lyapunov",
    "spectrum",
    "gradient_map",
    "loss_gradients",
    "lag_profile",
    "paths",
]


class Page(HTMLParser):
    """What a browser would see: that tags match, texts, pictures."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.pictures = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.pictures.append(dict(attributes))
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """Page and numbers of one run."""
    folder = tmp_path_factory.mktemp("report")
    assert run([*SMALL, "--cells", "elman,gru", "--report", "--out", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "gradient_report.html",
        "gradient_report.json",
    ]
    page = (folder / "gradient_report.html").read_text("utf-8")
    return page, json.loads((folder / "gradient_report.json").read_text())


@pytest.mark.slow
def test_the_page_holds_everything(reported):
    text, _ = reported
    page = Page(text)
    assert page.open == []
    said = "".join(page.texts)
    for word in ("Lyapunov exponents", "gru", "sufficient for vanishing", "recurrax", "nat"):
        assert word in said
    # An Elman network has no direct path: the reason stands in the place of a picture.
    assert "Not answered. paths needs a field of the state with a direct path" in said
    assert len(page.pictures) == 1 + 6 + 7
    for picture in page.pictures:
        assert picture["alt"]
        kind, data = picture["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert not re.search(r"(src|href)=.http", text)  # nothing is fetched when it is opened


@pytest.mark.slow
def test_the_page_agrees_with_itself(reported):
    """The top exponent of the table, and that of the sentence on all exponents."""
    text, _ = reported
    in_tables = re.findall(r"top exponent[^<]*</td><td>-</td><td[^>]*>([^<]*)<", text)
    in_words = re.findall(r"Small differences (\w+) by (\S+) nats a step", text)
    signed = [{"shrink": "-", "grow": ""}[growth] + size for growth, size in in_words]
    assert len(in_tables) == 2
    assert signed == in_tables


@pytest.mark.slow
def test_the_numbers_are_those_of_the_library(reported):
    _, document = reported
    cell = rx.cells.gru(1, 3)
    params = cell.init(jax.random.key(0))
    xs = rx.tasks.digit_sequences().xs[:6, :2]
    gru, elman = (document["cells"][name]["questions"] for name in ("gru", "elman"))
    assert list(gru) == QUESTIONS
    assert elman["paths"]["left_out"].startswith("paths needs a field")
    lyapunov = rx.flow.lyapunov(cell, params, None, xs)
    np.testing.assert_allclose(gru["lyapunov"]["exponents"], lyapunov.exponents, rtol=1e-3)
    half = rx.flow.gradient_map(cell, params, None, xs, probes=16)
    found = np.asarray(gru["gradient_map"]["log_norm"], float)
    inside = np.tril_indices(6)
    np.testing.assert_allclose(found[inside], half.log_norm[inside], rtol=1e-3, atol=1e-4)
    assert gru["gradient_map"]["targets"] == [1, 2, 3, 4, 5, 6]
    assert gru["report"]["rows"][0]["name"] == "log norm at T"
    loss = 0.5 * np.mean(np.square(rx.unroll(cell, params, None, xs)[1][-1]))
    np.testing.assert_allclose(gru["loss_gradients"]["loss"], loss, rtol=1e-5)
    assert set(gru["loss_gradients"]) == {"loss", "log_norm"}


def test_sequences_of_different_lengths_end_together_where_the_last_output_is_asked_for():
    mask = np.array([[True, False, True], [True, True, False], [False, True, False]])
    xs = np.arange(9.0).reshape(3, 3, 1)
    moved = Case(None, None, None, xs, mask).ending_together()
    assert moved.mask[-1].all()
    np.testing.assert_array_equal(moved.mask.sum(0), mask.sum(0))
    for b in range(3):  # what is left, in its order
        np.testing.assert_array_equal(moved.xs[moved.mask[:, b], b], xs[mask[:, b], b])
    case = Case(None, None, None, xs)
    assert case.ending_together() is case


# --- two files of weights ------------------------------------------------------------------------


def save(path, scale):
    cell = rx.cells.elman(1, 4)
    params = cell.init(jax.random.key(0))
    path.parent.mkdir(exist_ok=True)
    rx.interop.save(path, params._replace(w_rec=scale * params.w_rec))
    return str(path)


def test_before_and_after(tmp_path, capsys):
    files = [save(tmp_path / f"{name}.npz", scale) for name, scale in (("a", 0.3), ("b", 0.9))]
    args = ["--batch", "2", "--length", "12", "--out", str(tmp_path)]
    assert run(["flow", "--compare", *files, *args]) == 0
    numbers = json.loads((tmp_path / "gradient_flow.json").read_text())
    cells = numbers["cells"]
    assert list(cells) == ["a", "b"]
    assert cells["a"]["spectral_radius"] == pytest.approx([0.3], rel=1e-5)
    assert np.median(cells["a"]["rate"]) < np.median(cells["b"]["rate"])
    assert "from a to b: the rate rose from -1." in capsys.readouterr().out
    change = numbers["comparison"]
    assert change["names"] == ["a", "b"]
    np.testing.assert_allclose(change["rates"], [np.median(cells[n]["rate"]) for n in "ab"], 1e-5)
    assert change["words"].startswith("from a to b: the rate rose from -1.")


def test_the_page_says_what_changed():
    data = Sequences("x", np.zeros((1, 2, 3)), 1, notes=("x <b> is left out",))
    rows = [row("Net-1", -0.5, 28.0), row("b", -0.25, 30.0)]
    text, _ = page_of(Results("Title", data, rows, [[] for _ in rows]))
    assert "the rate rose" not in text
    change = difference(*rows)
    text, _ = page_of(Results("Title", data, rows, [[] for _ in rows], change))
    said = (
        "From Net-1 to b: the rate rose from -0.500 to -0.250 a step; the horizon went from 28 to "
        "30."
    )
    assert text.index("<h1>") < text.index(said) < text.index("<img")
    assert text.index("<td>-0.500</td>") < text.index("<td>28</td>") < text.index("<img")
    assert "T = 1 step, B = 2" in text
    assert "<p>x &lt;b&gt; is left out.</p>" in text
    assert "all of them" not in text  # nothing is left out


def test_the_page_says_of_which_examples_it_is():
    data = Sequences("x", np.zeros((4, 9, 3)), 4)
    text, _ = page_of(Results("Title", data, [], []))
    assert (
        "The first picture and the table are of all of them, what follows of the first 4. "
    ) in text


def test_every_question_is_answered_or_left_to_code(capsys):
    public = {name for name in rx.flow.__all__ if name.islower()}
    assert {*ANSWERED.split(", "), *LEFT_TO_CODE.split(", ")} == public
    with pytest.raises(SystemExit):
        run(["flow", "--help"])
    shown = capsys.readouterr().out
    for name in public:
        assert name in shown


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (-0.1358, "shrink by 0.1358 nats a step"),
        (0.5, "grow by 0.5 nats a step"),
        (-np.inf, "are lost within a step"),
    ],
)
def test_growth_in_words(rate, words):
    assert growth_in_words(rate) == words


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    files = [save(tmp_path / folder / "w.npz", 0.5) for folder in ("x", "y")]
    args = ["--batch", "1", "--length", "4", "--out", str(tmp_path)]
    assert run(["flow", "--compare", *files, *args]) == 0
    assert list(json.loads((tmp_path / "gradient_flow.json").read_text())["cells"]) == files


def row(name, rate, steps, reached=True):
    flag, decay = np.asarray([reached]), rx.flow.Decay(np.zeros((3, 1)), np.zeros((3, 1)))
    return Measurement(
        name, 4, None, decay, np.asarray([rate]), np.asarray([steps]), flag, "holds", None
    )


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ((-0.5, 6.0), (-0.1, 30.0), "rate rose from -0.500 to -0.100 a step; the horizon went"),
        ((0.1, np.inf), (-0.1, 30.0), "fell from +0.100 to -0.100 a step; the horizon went from"),
        ((0.1, 9.0), (0.1, 9.0), "the rate did not change (+0.100 a step); the horizon went"),
        ((-np.inf, 1.0), (0.1, 9.0), "cannot be compared: one of them is not finite; the horizon"),
    ],
)
def test_what_changed(before, after, text):
    found = difference(row("a", *before), row("b", *after))
    assert text in found.words
    assert found[:3] == (("a", "b"), *zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--compare", "w.npz", "w.npz"], "--compare names one file twice: w.npz"),
        (["--compare", "w.npz", "v.npz", "--cells", "gru"], "--cells and --compare exclude each"),
        (["--compare", "w.npz", "v.npz", "--params", "w.npz"], "--params and --compare exclude"),
        (["--compare", "w.npz", "v.npz"], "no such file: w.npz"),
    ],
)
def test_bad_comparisons(tmp_path, capsys, monkeypatch, args, text):
    monkeypatch.chdir(tmp_path)
    assert run(["flow", *args]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("recurrax: ")
    assert text in captured.err
    assert captured.err.count("\n") == 1


def test_plain_numbers():
    found = plain({"a": np.asarray([1.0, np.inf]), "b": (np.int32(3), None), "c": np.asarray([2])})
    assert found == {"a": [1.0, "inf"], "b": [3, None], "c": [2]}
    assert json.dumps(found)
    found = plain(rx.flow.Decay(np.asarray([np.nan, 0.123456789]), None))
    assert found == {"log_norm": ["nan", 0.1234568], "log_frobenius": None, "steps": None}
