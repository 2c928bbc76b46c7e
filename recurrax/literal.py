r"""A user's text, such as the name of a file, as it is shown: letter by letter.

In a picture matplotlib has rules of its own: it reads what stands between two `$` as mathematics,
which fails where it is none, and leaves labels that begin with `_` out of a legend. To it `\$` is a
dollar.
"""

from __future__ import annotations

import unicodedata

_INVISIBLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # categories: controls, surrogates, ends of lines
# Marks that turn the direction of what follows, so that a text seems to say something else.
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_NO_LETTER = "\N{REPLACEMENT CHARACTER}"
_LONGEST = 100  # letters in a picture; of longer words the middle is left out


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

    def escaped(letter: str) -> str:
        hidden = unicodedata.category(letter) in _INVISIBLE
        turning = unicodedata.bidirectional(letter) in _TURNING
        return letter.encode("unicode_escape").decode("ascii") if hidden or turning else letter

    return text if text.isprintable() else "".join(map(escaped, readable(text)))


def literal(words: str) -> str:
    r"""Words that a title, a tick or the label of an axis shows letter by letter.

    Example:
      >>> print(literal("cost in $ and in $"))
      cost in \$ and in \$
    """
    words = visible(words)
    if len(words) > _LONGEST:
        half = _LONGEST // 2 - 1
        words = f"{words[:half]}\N{HORIZONTAL ELLIPSIS}{words[-half:]}"
    return words.replace("$", r"\$")


def legend_label(words: str | None) -> str | None:
    """Words that a legend shows letter by letter; None stays out of it.

    Example:
      >>> legend_label("_hidden")
      ' _hidden'
    """
    return None if words is None else " " * words.startswith("_") + literal(words)


def is_literal(label: str) -> bool:
    """Whether matplotlib reads no mathematics in a label."""
    dollars = label.count("$") - label.count(r"\$")
    return not dollars or dollars % 2 == 1


def plain(label: str) -> str:
    """What a literal label shows."""
    return (label[1:] if label.startswith(" _") else label).replace(r"\$", "$")
