"""What the help lists is what the tables of names hold, so that a new name needs no list here."""

from __future__ import annotations

import pytest

import recurrax as rx
from recurrax import tasks
from recurrax.cells import CELLS
from recurrax.cli import run
from recurrax.cli.compare.compare_command import EXPERIMENTS
from recurrax.cli.flow.questions import QUESTIONS
from recurrax.train import presets


@pytest.mark.parametrize(
    ("command", "tables"),
    [
        ("flow", (CELLS, [question.name for question in QUESTIONS])),
        ("train", (CELLS, tasks.NAMES, presets.OPTIMIZERS, rx.cures.init.__all__)),
        ("reproduce", (rx.published.CLAIMS,)),
        ("diagnose", (["MODEL", "--prefix", "--activation", "safetensors", "keras", "onnx"],)),
        (
            "compare",
            (
                *(presets.CELLS, presets.ALIASES, presets.CURES),
                *(tasks.NAMES, presets.OPTIMIZERS, EXPERIMENTS),
            ),
        ),
    ],
)
def test_every_name_of_a_table_is_in_the_help(capsys, command, tables):
    with pytest.raises(SystemExit) as stopped:
        run([command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out.replace(",", " ").replace("[", " ").replace("=", " ").split()
    for name in (name for table in tables for name in table):
        assert any(word.strip("().:;") == name for word in shown), name
