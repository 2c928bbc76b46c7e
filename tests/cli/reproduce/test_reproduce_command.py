"""`recurrax reproduce` as its user runs it, on claims of the tests' own."""

from __future__ import annotations

import json
import math
import re
import sys

import pytest

import recurrax as rx
from recurrax.cli import run
from recurrax.cli.reproduce.reproduce_command import ReproduceOptions
from recurrax.published import Claim, compared, not_comparable, stated
from recurrax.published.claim import absolute, relative


def claim(name, *rows, **options):
    setting = f"setting of {name}"
    return Claim(name, f"title of {name}", f"source of {name}", setting, lambda: rows, **options)


EXACT = claim(
    "exact",
    compared("a whole one", 74_000, [70_000, 76_000, 74_001], relative(0.03)),
    compared("a small one", 0.16, 0.1469330018, absolute(0.02), "standard error 0.030"),
    compared("one that is not there", 1, math.nan, absolute(1)),
)
WORDS = claim(
    "words",
    stated("wrong ones", [0, 3], False, "none is wrong"),
    not_comparable("sequences", 31_390, 5000, "stopped after a tenth"),
)
SLOW = claim("slow", compared("one", 1, 1, absolute(0)), long=True, float64=True)


assert ReproduceOptions  # its help lists the real claims once it is imported


@pytest.fixture(autouse=True)
def _claims(monkeypatch):
    claims = {one.name: one for one in (EXACT, WORDS, SLOW)}
    monkeypatch.setattr(rx.published, "CLAIMS", claims)
    monkeypatch.setenv("COLUMNS", "160")


def test_tables_and_the_sentence(capsys):
    assert run(["reproduce"]) == 0  # although two numbers differ
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    rows = [row for row in rows if row]
    assert rows == [
        ["a whole one", "74,000", "74,001 (70,000 to 76,000)", "+- 3 %", "agrees", ""],
        ["a small one", "0.16", "0.1469", "+- 0.02", "agrees", "standard error 0.030"],
        ["one that is not there", "1", "nan", "+- 1", "differs", ""],
        ["wrong ones", "in words", "1.5 (0 to 3)", "none is wrong", "differs", ""],
        ["sequences", "31,390", "5,000", "", "not comparable", "stopped after a tenth"],
    ]
    for name in ("exact", "words"):
        assert f"{name}: title of {name}" in printed
        ending = rf"source: source of {name}\nhere: setting of {name}; \d+\.\d s\n"
        assert re.search(ending, printed)
    assert "slow" not in printed
    last = printed.splitlines()[-1]
    assert last.startswith("2 agree, 1 cannot be compared, 2 differ: exact (one that is not there)")
    assert re.search(r"and words \(wrong ones\); 2 claims in \d+ s\Z", last)


def test_names_choose_and_minutes_need_no_more_than_a_name(capsys):
    assert run(["reproduce", "slow", "words", "slow"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("slow: title") < printed.index("words: title")
    assert "exact" not in printed
    assert re.search(r"; 2 claims in \d+ s\n\Z", printed)
    assert run(["reproduce", "--long"]) == 0
    assert re.search(r"; 3 claims in \d+ s\n\Z", capsys.readouterr().out)


def test_a_claim_in_a_file_of_the_folder(capsys, tmp_path, monkeypatch):
    """Ten lines: a cell, what rx.flow says of it, and what is known."""
    (tmp_path / "maps_of_mine.py").write_text(
        "import math\nimport jax.numpy as jnp\nimport recurrax as rx\n"
        "from recurrax.published import Claim, Tolerance, compared\n\n"
        "def logistic(r, x, _):\n    return 2 * (r * x * (1 - x),)\n\n"
        "def rows():\n"
        "    found = rx.flow.lyapunov(logistic, 4.0, jnp.array([0.3]), length=2000)\n"
        "    near = Tolerance('absolute', 0.05)\n"
        "    yield compared('r = 4', math.log(2), found.exponents[0], near)\n\n"
        "MAP = Claim('logistic', 'its exponent', 'Ulam and von Neumann 1947', 'T = 2,000', rows,\n"
        "            float64=True)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert run(["reproduce", "maps_of_mine:MAP", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["claims"]["logistic"]["rows"]
    assert row["published"] == pytest.approx(math.log(2), abs=1e-6)
    assert row["verdict"] == "agrees"


def test_json_holds_everything(capsys, tmp_path):
    out = tmp_path / "new"
    assert run(["reproduce", "exact", "slow", "--json", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads((out / "reproduced.json").read_text()) == json.loads(captured.out)
    document = json.loads(captured.out)
    for name in ("recurrax", "jax", "jaxlib", "numpy", "python", "device", "cores"):
        assert document[name], name
    assert document["options"] == {"names": ["exact", "slow"], "long": False, "out": str(out)}
    assert document["verdicts"] == {"agrees": 3, "differs": 1, "not comparable": 0}
    exact, slow = document["claims"]["exact"], document["claims"]["slow"]
    assert (exact["dtype"], slow["dtype"]) == ("float32", "float64")
    assert (exact["long"], slow["long"]) == (False, True)
    assert 0 <= exact["seconds"] < 60
    assert {exact[name] for name in ("title", "source", "setting")} == {
        f"{name} of exact" for name in ("title", "source", "setting")
    }
    assert exact["rows"][0] == {
        "what": "a whole one",
        "published": 74000.0,
        "ours": 74001.0,
        "range": [70000.0, 76000.0],
        "tolerance": "+- 3 %",
        "verdict": "agrees",
        "note": "",
    }
    assert exact["rows"][2]["ours"] == "nan"
    assert exact["rows"][2]["range"] is None


def test_ctrl_c_keeps_what_is_measured(capsys, tmp_path, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    stopping = Claim("stopping", "a", "b", "c", stop)
    monkeypatch.setitem(rx.published.CLAIMS, "stopping", stopping)
    args = ["reproduce", "words", "stopping", "exact", "--out", str(tmp_path)]
    assert run(args) == 130
    captured = capsys.readouterr()
    assert captured.err == "recurrax: stopped after 1 of 3 claims\n"
    assert "title of words" in captured.out
    assert list(json.loads((tmp_path / "reproduced.json").read_text())["claims"]) == ["words"]


def test_mistakes(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for name, text in (
        ("syntax", "def ("),
        ("name", "IT = here"),
        ("rows", "import recurrax as rx\nEXACT = rx.published.Claim('exact', *'abc', list)\n"),
    ):
        (tmp_path / f"wrong_{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    lacking = Claim("lacking", "a", "b", "c", lambda: __import__("no_such_module"))
    monkeypatch.setitem(rx.published.CLAIMS, "lacking", lacking)
    for words, message in (
        (["wrods"], "there is no claim 'wrods'; did you mean 'words'? There are exact, words, "),
        (["exact", ""], "there is no claim ''. There are exact, "),
        (["no_such_module:IT"], "there is no claim 'no_such_module:IT': ModuleNotFoundError: No "),
        (["wrong_syntax:IT"], "there is no claim 'wrong_syntax:IT': SyntaxError: "),
        (["wrong_name:IT"], "there is no claim 'wrong_name:IT': NameError: name 'here' is not "),
        (["exact", "wrong_rows:EXACT"], "two claims have the name 'exact': rename one of them"),
        (["wrong_rows:EXACT"], "measure() of claim 'exact' must give rows, made by compared, "),
        (["--log"], "unknown option '--log'; did you mean --long?"),
        (["--out", str(tmp_path / "file")], f"--out {tmp_path / 'file'} cannot be written ("),
        (["lacking"], "No module named 'no_such_module'"),
    ):
        assert run(["reproduce", *words]) == 2, words
        captured = capsys.readouterr()
        assert captured.err.startswith(f"recurrax: {message}"), captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""
