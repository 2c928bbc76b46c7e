"""What is shown while training."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from train.small import fit

from recurrax.train import progress
from recurrax.train.progress import shown, words

ROW = {"step": 7, "loss": 0.25, "mse": 0.125, "gradient_norm": 2.0, "steps_per_second": 40.0}


def test_the_words():
    assert words(ROW, "mse") == "loss 0.25  mse 0.125  gradient norm 2  40 steps/s"
    more = ROW | {"clip_fraction": 0.5, "test_mse": 0.5}
    assert words(more, "mse") == (
        "loss 0.25  mse 0.125  test mse 0.5  gradient norm 2  clipped 50%  40 steps/s"
    )
    assert words(ROW, None) == "loss 0.25  gradient norm 2  40 steps/s"


def test_a_metric_is_shown_letter_by_letter(capsys, monkeypatch):
    row = ROW | {"[bold]m:smile:\x1b[1m": 0.5}
    seen = words(row, "[bold]m:smile:\x1b[1m")
    assert r"[bold]m:smile:\x1b[1m 0.5" in seen
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    with shown(True, 9, 0, "[bold]m:smile:\x1b[1m") as show:
        show.report(row)
    assert r"[bold]m:smile:\x1b[1m 0.5" in terminal.getvalue()


def test_lines(capsys, monkeypatch):
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: 5.0))
    with shown("lines", 9, 0, "mse") as show:
        show.moved(1)  # of which a line says nothing, not even that there was one
        for step in (3, 6, 7):  # within a second: the first, and the last
            show.report(ROW | {"step": step})
            show.moved(step + 1)
    text = f"{words(ROW, 'mse')}\n"
    assert capsys.readouterr().err == f"step 3/9  {text}step 7/9  {text}"


def test_nothing_where_there_is_no_terminal(capsys):
    fit(2, progress=True)
    fit(2, progress=False)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    fit(8, progress=True)
    text = terminal.getvalue()
    assert "8/8" in text
    assert "gradient norm" in text
    assert "clipped" in text


def test_lines_on_a_terminal_without_rich(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    fit(8, progress=True)
    assert "step 8/8  loss" in terminal.getvalue()


def test_a_bar_that_training_breaks_is_taken_down(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def broken():
        with shown(True, 3, 0, None) as show:
            show.moved(1)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken()
