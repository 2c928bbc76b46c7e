"""What is printed of a result."""

from __future__ import annotations

import io
import json
import threading

import numpy as np
import pytest
from rich.console import Console

import recurrax as rx
from recurrax.cli import console as console_module
from recurrax.cli.console import document
from recurrax.cli.flow.measurement import Measurement


def row(**changes) -> Measurement:
    plain = Measurement(
        "lstm", 8, None, None, np.array([-0.1]), np.array([30.0]), np.array([True]), "", None
    )
    return plain._replace(**changes)


def bounds(log_rate: float) -> rx.flow.Bounds:
    one = np.ones(1)
    return rx.flow.Bounds(one, one, log_rate, log_rate < 0, log_rate > 0, None)


@pytest.mark.parametrize(
    ("log_rate", "words"),
    [
        (-0.1, "must vanish"),
        (0.1, "may explode"),
        (0.0, "cannot explode"),
        (float("inf"), "nothing"),
        (float("-inf"), "must vanish"),
    ],
)
def test_promise(log_rate, words):
    assert row(bounds=bounds(log_rate)).promise == words


def test_story_of_each_verdict():
    assert row(verdict="vanishes").story(64) == (
        "lstm: the gradient vanishes at a factor 0.905 a step; what happened more than 30 steps "
        "ago is not felt (under 5 % is left)."
    )
    assert "explodes at e^800 a step; clip it" in row(
        verdict="explodes", rate=np.array([800.0])
    ).story(64)
    assert row(verdict="holds").story(64).startswith("lstm: the gradient holds over these 64")


def test_one_step_is_not_plural():
    assert "more than 1 step ago" in row(verdict="vanishes", horizon=np.ones(1)).story(64)
    assert "holds over this one step (" in row(verdict="holds").story(1)


def test_json_writes_what_is_not_finite_as_words():
    decay = rx.flow.Decay(np.array([[-np.inf], [1.0]]), np.array([[0.5], [np.inf]]))
    numbers = row(horizon=np.array([np.inf]), decay=decay).numbers()
    text = document({}, cells={"lstm": numbers})
    cell = json.loads(text)["cells"]["lstm"]
    assert cell["log_norm"] == [["-inf"], [1.0]]
    assert cell["horizon"] == ["inf"]
    np.testing.assert_array_equal(np.asarray(cell["log_norm"], float), decay.log_norm)


@pytest.mark.parametrize(("passed", "terminal"), [(False, True), (True, True), (True, False)])
def test_progress_is_shown_on_a_terminal_after_a_second(monkeypatch, passed, terminal):
    asked = []

    class Timer(threading.Timer):
        """Whose time has passed at once, or never comes."""

        def __init__(self, seconds, function):
            asked.append(seconds)
            super().__init__(0 if passed else 1e6, function)

        def start(self):
            super().start()
            if passed:
                self.join()

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal)
    monkeypatch.setattr(console_module, "terminal", lambda stderr: console)
    monkeypatch.setattr(console_module.threading, "Timer", Timer)
    with console_module.progress("measuring", 2) as update:
        update(advance=1)
    assert asked == [1.0]
    assert ("measuring" in screen.getvalue()) == (passed and terminal)
    assert terminal or screen.getvalue() == ""
