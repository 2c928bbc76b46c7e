"""Tasks by name."""

from __future__ import annotations

import close
import pytest

import recurrax as rx
from recurrax.tasks import NAMES

ALL = "adding, multiplication, copying, temporal_order, counting, digits, text"


def test_every_name_is_a_task():
    assert ", ".join(NAMES) == ALL
    for name in NAMES:
        assert callable(getattr(rx.tasks, name))
        if name != "text":
            assert rx.tasks.get(name) == getattr(rx.tasks, name)()
            assert rx.tasks.get(name).name == name


def test_options_are_handed_on():
    assert rx.tasks.get("copying", T=7, symbols=3) == rx.tasks.copying(7, symbols=3)
    with close.says(ValueError, "T must be a positive integer, got -1"):
        rx.tasks.get("adding", T=-1)


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("ading", "; did you mean 'adding'?"),
        ("temporal-order", "; did you mean 'temporal_order'?"),
        ("mnist", "."),
        (3, "."),
    ],
)
def test_an_unknown_name(name, rest):
    with close.says(ValueError, f"there is no task {name!r}{rest} The tasks are {ALL}"):
        rx.tasks.get(name)


def test_unknown_and_missing_options():
    with close.says(
        TypeError,
        "task 'copying' has no option 'lenght'; did you mean 'length'? Its options are T, symbols, "
        "length",
    ):
        rx.tasks.get("copying", lenght=3)
    with close.says(TypeError, "task 'adding' has no option 'hidden'. Its options are T"):
        rx.tasks.get("adding", hidden=3)
    with close.says(TypeError, "task 'text' needs path: rx.tasks.get('text', path=...)"):
        rx.tasks.get("text", T=3)
