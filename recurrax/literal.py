"""A user's text, such as the name of a file, as it is shown: letter by letter."""

from __future__ import annotations

import unicodedata

_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # categories: controls, surrogates, ends of lines
# Marks that turn the direction of what follows, so that a text seems to say something else.
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_NO_LETTER = "\N{REPLACEMENT CHARACTER}"


def readable(text: str) -> str:
    """Text that every encoding of Unicode can hold: bytes that are no text are replaced.

    Example:
      >>> readable("a\\udcff.csv")
      'a\ufffd.csv'
    """
    return "".join(_NO_LETTER if "\ud800" <= c <= "\udfff" else c for c in text)


def visible(text: str) -> str:
    r"""Text of one line that does to a terminal or a picture nothing but be seen.

    Control characters, ends of lines and marks that turn the direction are written as Python
    writes them, bytes that are no text are replaced.

    Example:
      >>> print(visible("one\ntwo\x1b[1m"))
      one\ntwo\x1b[1m
    """
    return "".join(map(_seen, readable(text))) if not text.isprintable() else text


def _seen(letter: str) -> str:
    hidden = unicodedata.category(letter) in _UNSEEN
    if hidden or unicodedata.bidirectional(letter) in _TURNING:
        return letter.encode("unicode_escape").decode("ascii")
    return letter
