r"""Words of a user in a picture: shown as they are, though matplotlib has rules of its own.

It reads what stands between two `$` as mathematics, which fails where it is none, and leaves labels
that begin with `_` out of a legend. `\$` is a dollar to it.
"""

from __future__ import annotations

from recurrax.literal import visible

_LONGEST = 100  # letters; of longer words the middle is left out


def literal(words: str) -> str:
    r"""Words that a title, a tick or the label of an axis shows letter by letter.

    Example:
      >>> print(literal("cost in $ and in $"))
      cost in \$ and in \$
    """
    return _short(visible(words)).replace("$", r"\$")


def legend_label(words: str | None) -> str | None:
    """Words that a legend shows letter by letter; None stays out of it.

    Example:
      >>> legend_label("_hidden")
      ' _hidden'
    """
    if words is None:
        return None
    return " " * words.startswith("_") + literal(words)


def is_literal(label: str) -> bool:
    """Whether matplotlib reads no mathematics in a label."""
    dollars = label.count("$") - label.count(r"\$")
    return not dollars or dollars % 2 == 1


def plain(label: str) -> str:
    """What a literal label shows."""
    return (label[1:] if label.startswith(" _") else label).replace(r"\$", "$")


def _short(words: str) -> str:
    if len(words) <= _LONGEST:
        return words
    half = _LONGEST // 2 - 1
    return f"{words[:half]}\N{HORIZONTAL ELLIPSIS}{words[-half:]}"
