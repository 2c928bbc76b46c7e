"""The README's Python runs as it stands, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

README = Path(__file__).parent.parent / "README.md"


def test_python_blocks_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    matplotlib.use("agg")
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    plt.close("all")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split()[0] in ("holds", "vanishes")
    assert second in ("holds", "vanishes")
    mse, baseline, clipped = map(float, third.split())
    assert mse < baseline
    assert 0 <= clipped <= 1


def test_two_commands_do_all_the_set_up():
    shell = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert shell[0].splitlines() == [
        "pip install '.[all]' && recurrax flow",
        "pip install '.[test]' && pytest",
    ]
