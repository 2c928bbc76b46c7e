"""Strings a^n b^n and a^n b^n c^n, whose end only a counter can tell."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.tasks import losses
from recurrax.tasks.batch import Batch
from recurrax.tasks.task import Sampler, Task, check_length

if TYPE_CHECKING:
    import chex


def counting(T: int = 41, letters: int = 2, n_min: int = 1, n_max: int | None = None) -> Task:
    """Strings a^n b^n, or a^n b^n c^n: predict each next symbol, the end included.

    A string is read as an end symbol, n times a, n times b (and n times c), with n uniform from
    n_min to n_max; then zeros up to T. Asked is the next symbol wherever the string so far
    determines it: after the first symbol and from the first b on. After an a it may be a or b, and
    weights are 0 there, as they are behind the string.

    Args:
      T: steps of a sequence, the end symbol before the string among them.
      letters: 2 for a^n b^n, which is context-free, or 3 for a^n b^n c^n, which is not.
      n_min: the smallest n.
      n_max: the largest n; None for the largest that fits, `(T - 1) // letters`. Other ranges for
        training and for testing ask whether a network generalises.

    Returns:
      An endless `Task`, I = O = letters + 1: the letters in order, then the end. The metric
      `"string_accuracy"` is the fraction of strings predicted right wherever it was asked, solved
      above .99. The baseline is the best that can be answered from the symbol just read.

    Raises:
      ValueError, TypeError: if a number is no positive integer, letters is not 2 or 3, the
        longest string does not fit into T, or only one n is left.

    Example:
      >>> import jax, recurrax as rx
      >>> task = rx.tasks.counting(11)
      >>> batch = task.draw(jax.random.key(1), 1)
      >>> "".join("ab#"[i] for i, x in zip(batch.xs[:, 0].argmax(-1), batch.xs[:, 0]) if x.any())
      '#aabb'

    Source: Gers and Schmidhuber (2001), "LSTM recurrent networks learn simple context-free and
    context-sensitive languages".
    """
    checks.check_positive_int("letters", letters)
    if letters not in (2, 3):
        raise ValueError(f"letters must be 2 (a^n b^n) or 3 (a^n b^n c^n), got {letters!r}")
    checks.check_positive_int("n_min", n_min)
    longest = n_min + 1 if n_max is None else n_max
    checks.check_positive_int("n_max", longest)
    if longest <= n_min:
        raise ValueError(
            f"n_max must be above n_min = {n_min}, or there is nothing to count; got {n_max}"
        )
    shortest = letters * longest + 1
    check_length("counting", "T", T, shortest, f"one step and {letters} letters {longest} times")
    n_max = (T - 1) // letters if n_max is None else n_max
    return Task(
        "counting",
        input_size=letters + 1,
        output_size=letters + 1,
        length=T,
        loss=losses.cross_entropy,
        metrics=string_metrics,
        baseline=_baseline(letters, n_min, n_max),
        goal=("string_accuracy", ">", 0.99),
        sample=CountedLetters(T, letters, n_min, n_max),
    )


def string_metrics(outputs: chex.Array, batch: Batch) -> dict[str, Any]:
    """`{"string_accuracy": fraction of strings right at every step that is asked}`."""
    right = losses.right(outputs, batch) | (jnp.asarray(batch.weights) == 0)
    strings = right.all(0)
    return {"string_accuracy": losses.mean(strings, jnp.ones_like(strings))}


def _baseline(letters: int, n_min: int, n_max: int) -> tuple[tuple[str, float], ...]:
    """The best that can be reached from the symbol just read alone.

    After the first symbol comes an a, surely. After a b, or a c, another letter begins once in n
    times: with probability p = 1 / mean(n), whose entropy is paid n times for each such letter.
    Whoever always answers that the next letter begins is right in the strings of n = 1.
    """
    mean_n = (n_min + n_max) / 2
    p = 1 / mean_n
    entropy = -p * math.log(p) - (1 - p) * math.log1p(-p)
    uncertain = (letters - 1) * mean_n
    right = 1 / n_max if n_min == 1 else 0.0
    return (("loss", uncertain * entropy / (1 + uncertain)), ("string_accuracy", right))


@dataclasses.dataclass(frozen=True)
class CountedLetters(Sampler):
    length: int
    letters: int
    n_min: int
    n_max: int

    def sample(self, key: chex.PRNGKey, batch: int) -> Batch:
        n = jax.random.randint(key, (batch,), self.n_min, self.n_max + 1)
        end = self.letters
        # The symbol at position t of the string: t // n counts the letters up, to the end.
        position = jnp.arange(self.length)[:, None]
        following = jnp.minimum(position // n, end)
        read = jnp.concatenate([jnp.full((1, batch), end), following[:-1]])
        inside = position <= self.letters * n
        asked = inside & ((position == 0) | (position > n))
        symbols = jax.nn.one_hot(read, self.letters + 1, dtype=checks.default_float())
        xs = jnp.where(inside[..., None], symbols, 0.0)
        return Batch(xs, following.astype(jnp.int32), asked.astype(symbols.dtype))
