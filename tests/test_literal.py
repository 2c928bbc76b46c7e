"""A user's text, shown letter by letter."""

from __future__ import annotations

import pytest

from recurrax.literal import readable, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain.csv", "plain.csv"),
        ("größe 日本 \N{NO-BREAK SPACE}x", "größe 日本 \N{NO-BREAK SPACE}x"),
        ("$x$ {a} [bold] :smile: \\n", "$x$ {a} [bold] :smile: \\n"),
        ("a\udcff\ud800b", "a\ufffd\ufffdb"),
        ("one\ntwo\r\t", r"one\ntwo\r\t"),
        ("\x1b[31m\x00\x7f\x9b", r"\x1b[31m\x00\x7f\x9b"),
        ("\u202egnp.csv\u2028", r"\u202egnp.csv\u2028"),
        ("\N{ZERO WIDTH NON-JOINER}", "\N{ZERO WIDTH NON-JOINER}"),
    ],
)
def test_what_is_shown(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown
    visible(text).encode("utf-8")


def test_readable_changes_no_more_than_it_must():
    assert readable("a\n\udcffb") == "a\n\ufffdb"
