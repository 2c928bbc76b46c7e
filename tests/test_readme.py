"""The README's Python runs as it stands, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

README = Path(__file__).parent.parent / "README.md"
RESULTS = Path(__file__).parent / "benchmarks" / "RESULTS.md"


def test_python_blocks_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    matplotlib.use("agg")
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    plt.close("all")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split()[0] in ("holds", "vanishes")
    mse, baseline, clipped = map(float, second.split())
    assert mse < baseline
    assert 0 <= clipped <= 1
    assert third in ("holds", "vanishes")


def test_it_is_short():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 120] == []


def test_its_speeds_are_those_that_a_script_wrote():
    written = RESULTS.read_text(encoding="utf-8").partition("<!-- training: begin -->")[2]
    for cell in ("LSTM", "GRU", "Elman"):
        told, measured = (
            re.search(rf"^\| {cell} +\|(.*)", text, re.MULTILINE).group(1).split("|")[:3]
            for text in (README.read_text(encoding="utf-8"), written)
        )
        assert [value.strip() for value in told] == [value.split()[0] for value in measured]


def test_two_commands_do_all_the_set_up():
    shell = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert shell[0].splitlines() == [
        "pip install '.[all]' && recurrax flow",
        "pip install '.[test]' && pytest",
    ]
