"""Adding, and telling an order, with the network and the learning rule of 1997."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.published.claim import Claim, absolute, at_most, compared, factor, not_comparable
from recurrax.published.training import memory_cells
from recurrax.published.training.online import Problem, Sequence, judge, train

if TYPE_CHECKING:
    from collections.abc import Iterator

    import chex

    from recurrax.published.claim import Row

SHORTEST, LONGEST = 100, 110
TEST = 2_560
MOST = 4  # times as many sequences as are published, after which training ends in any case
FACTOR = 3  # by which the mean of so few trials may differ


def _length(key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
    """A random length, and the numbers of all places, those behind it too."""
    return jax.random.randint(key, (), SHORTEST, LONGEST + 1), jnp.arange(LONGEST)


def marked_numbers(key: chex.PRNGKey) -> Sequence:
    """Two marked numbers of [-1, 1], whose sum is scaled to [0, 1]; both ends are marked with -1.

    The first mark is one of the first ten places, the second one of the first T/2 - 1 others. A
    mark at the very first place stands at a 0.
    """
    length_key, value_key, first_key, second_key = jax.random.split(key, 4)
    length, place = _length(length_key)
    first = jax.random.randint(first_key, (), 0, 10)
    second = jax.random.randint(second_key, (), 0, SHORTEST // 2 - 1)
    second += second >= first
    marked = (place == first) | (place == second)
    values = jax.random.uniform(value_key, (LONGEST,), minval=-1.0, maxval=1.0)
    values = jnp.where(marked & (place == 0), 0.0, values)
    ends = (place == 0) | (place == length - 1)
    markers = jnp.where(marked, 1.0, jnp.where(ends, -1.0, 0.0))
    target = 0.5 + jnp.sum(jnp.where(marked, values, 0.0)) / 4
    return Sequence(jnp.stack([values, markers], -1), place < length, target[None])


def ordered_symbols(key: chex.PRNGKey) -> Sequence:
    """Two of X and Y among four distractors, between a first and a last symbol; four orders."""
    length_key, other_key, symbol_key, place_key = jax.random.split(key, 4)
    length, place = _length(length_key)
    first, second = jax.random.randint(symbol_key, (2,), 0, 2)
    at = jax.random.randint(place_key, (2,), 10, 21) + jnp.array([0, 40])
    symbols = 4 + jax.random.randint(other_key, (LONGEST,), 0, 4)
    symbols = symbols.at[at].set(2 + jnp.array([first, second]))
    symbols = jnp.where(place == 0, 0, jnp.where(place == length - 1, 1, symbols))
    target = jax.nn.one_hot(2 * first + second, 4)
    return Sequence(jax.nn.one_hot(symbols, 8), place < length, target)


ADDING = Problem(marked_numbers, 2, 1, (-3.0, -6.0), tolerance=0.04, mean_error=0.01)
ORDER = Problem(ordered_symbols, 8, 4, (-2.0, -4.0), tolerance=0.3, mean_error=0.1)


def weights(problem: Problem) -> int:
    """How many numbers are learned."""
    network = memory_cells.init(
        jax.random.key(0), problem.inputs, problem.outputs, problem.gate_biases
    )
    return sum(leaf.size for leaf in jax.tree.leaves(network))


def rows(problem: Problem, seeds: int, size: int, published: int) -> Iterator[Row]:
    """Train, judge, and compare with Table 7 or 9, and with what the text says of all trials."""
    yield compared("weights", size, weights(problem), absolute(0))
    train_key, test_key = jax.random.split(jax.random.key(0))
    trained = train(problem, jax.random.split(train_key, seeds), MOST * published)
    judged = judge(problem, trained.network, test_key, TEST)
    needed, wrong, error = (np.asarray(each).tolist() for each in (trained.sequences, *judged))
    name, late = "training sequences, mean", seeds - int(trained.stopped.sum())
    note = f"{late} of {seeds} had not stopped after {MOST * published:,}" if late else ""
    # What had not stopped needs more, so that the mean is a lower bound, which may be too much.
    if late and np.mean(needed) <= FACTOR * published:
        yield not_comparable(name, published, needed, note)
    else:
        yield compared(name, published, np.mean(needed), factor(FACTOR), note, others=needed)
    yield compared(f"wrong of {TEST:,}, mean", 1, np.mean(wrong), absolute(2), note, others=wrong)
    yield compared(f"wrong of {TEST:,}, most", 3, max(wrong), at_most(), note, others=wrong)
    mean = problem.mean_error
    yield compared("test error, largest", mean, max(error), at_most(), note, others=error)


SETTING = (
    "2 blocks of 2 cells, all hidden units heard by all, truncated rule, one sequence an update, "
    "learning rate 0.5, weights uniform in +-0.1, input gate biases {}; stops once the last 2,000 "
    "were right and their squared error, summed over outputs, had a mean below {}, or after "
    f"{MOST} times the published number of sequences; {{}} seeds"
)


def _claim(name: str, title: str, place: str, problem: Problem, *sizes: int) -> Claim:
    biases = ", ".join(f"{bias:g}" for bias in problem.gate_biases)
    return Claim(
        name,
        title,
        f"Hochreiter and Schmidhuber 1997, {place}",
        SETTING.format(biases, problem.mean_error, sizes[0]),
        lambda: rows(problem, *sizes),
        long=True,
    )


ADDS = _claim(
    "hochreiter-adding",
    "93 weights learn to add over T = 100 to 110 steps",
    "section 5.4 and Table 7, T = 100",
    ADDING,
    *(10, 93, 74_000),
)
TELLS_ORDER = _claim(
    "hochreiter-order",
    "156 weights learn the order of two symbols in 100 to 110 steps",
    "section 5.6 and Table 9, task 6a",
    ORDER,
    *(20, 156, 31_390),
)
