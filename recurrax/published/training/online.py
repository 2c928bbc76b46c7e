"""Learning after every sequence until the last ones were right, as in 1997."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.published.training.memory_cells import Network, answer, init

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


class Sequence(NamedTuple):
    """One sequence, and what is asked at its end."""

    xs: chex.Array  # [T, I]
    mask: chex.Array  # bool [T], False behind its end
    target: chex.Array  # [O], in [0, 1]


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is learned, and when it is."""

    draw: Callable[[chex.PRNGKey], Sequence]
    inputs: int
    outputs: int
    gate_biases: tuple[float, ...]  # of the input gates
    tolerance: float  # the largest error of an answer that is right
    mean_error: float  # below which training may stop
    learning_rate: float = 0.5
    last: int = 2_000  # so many must have been right


class Learned(NamedTuple):
    """Where one seed stands."""

    network: Network
    errors: chex.Array  # [last], of the latest sequences
    right: chex.Array  # int32 [], how many of the latest were right without a gap
    sequences: chex.Array  # int32 [], trained on so far
    stopped: chex.Array  # bool [], whether by the rule


def learn_one(problem: Problem, learned: Learned, sequence: Sequence) -> Learned:
    """Answer, then descend half the squared error of the answer."""

    def half_error(network: Network) -> tuple[chex.Array, chex.Array]:
        missed = answer(network, sequence.xs, sequence.mask) - sequence.target
        return jnp.sum(missed**2) / 2, missed

    slope, missed = jax.grad(half_error, has_aux=True)(learned.network)
    network = jax.tree.map(lambda w, g: w - problem.learning_rate * g, learned.network, slope)
    right = jnp.where(is_right(problem, missed), learned.right + 1, 0)
    place = learned.sequences % problem.last
    errors = learned.errors.at[place].set(jnp.sum(missed**2))
    stopped = (right >= problem.last) & (jnp.mean(errors) < problem.mean_error)
    return Learned(network, errors, right, learned.sequences + 1, stopped)


def is_right(problem: Problem, missed: chex.Array) -> chex.Array:
    """Whether every output `[..., O]` is near enough."""
    return jnp.all(jnp.abs(missed) < problem.tolerance, -1)


@partial(jax.jit, static_argnums=0)
def train(problem: Problem, keys: chex.PRNGKey, most: int) -> Learned:
    """Train one network for each key `[S]` until the rule stops it, on `most` sequences at most."""

    def one(key: chex.PRNGKey) -> Learned:
        init_key, data_key = jax.random.split(key)
        network = init(init_key, problem.inputs, problem.outputs, problem.gate_biases)
        zero = jnp.int32(0)
        start = Learned(network, jnp.full(problem.last, jnp.inf), zero, zero, jnp.bool_(False))

        def goes_on(learned: Learned) -> chex.Array:
            return ~learned.stopped & (learned.sequences < most)

        def body(learned: Learned) -> Learned:
            drawn = problem.draw(jax.random.fold_in(data_key, learned.sequences))
            return learn_one(problem, learned, drawn)

        learned: Learned = jax.lax.while_loop(goes_on, body, start)
        return learned

    trained: Learned = jax.vmap(one)(keys)
    return trained


class Judged(NamedTuple):
    """How a network does on sequences that it was not trained on."""

    wrong: chex.Array  # int [S]
    mean_error: chex.Array  # [S], squared and summed over the outputs


@partial(jax.jit, static_argnums=(0, 3))
def judge(problem: Problem, networks: Network, key: chex.PRNGKey, count: int) -> Judged:
    """Ask every network `[S]` the same fresh sequences."""
    test = jax.vmap(problem.draw)(jax.random.split(key, count))
    xs, mask = jnp.moveaxis(test.xs, 0, 1), test.mask.T

    def one(network: Network) -> Judged:
        missed = answer(network, xs, mask) - test.target
        wrong = ~is_right(problem, missed)
        return Judged(jnp.sum(wrong), jnp.mean(jnp.sum(missed**2, -1)))

    return jax.vmap(one)(networks)
