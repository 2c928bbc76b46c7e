"""Telling the order of two symbols: plain descent with clipping, and with the regulariser Omega."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.cell import Cell
from recurrax.published.claim import Claim, not_comparable, stated
from recurrax.tasks import losses
from recurrax.tasks.batch import Batch
from recurrax.unrolling import unroll

if TYPE_CHECKING:
    from collections.abc import Iterator

    import chex

    from recurrax.published.claim import Row

UNITS, INPUTS, CLASSES, SEEDS, BATCH = 50, 6, 4, 3, 20
RATE, CLIP, STRENGTH = 0.01, 1.0, 4.0
SHORTEST, LONGEST = 20, 50
UPDATES, CHECK_EVERY = 10_000, 2_000
THEIR_UPDATES = 5_000_000
TEST, PIECE, SUCCESS = 10_000, 1_000, 0.01
LONGER = (100, 200, 500, 1_000)  # lengths that no network was trained on


# --- the data -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class OfAnyLength:
    """Batches of sequences of one length each, drawn from [shortest, longest) for every batch.

    They are as long as the longest: behind its end a sequence holds zeros, and nothing is asked.
    """

    shortest: int
    longest: int

    def __call__(self, key: chex.PRNGKey, size: int) -> Batch:
        length_key, symbol_key, other_key, place_key = jax.random.split(key, 4)
        length = jax.random.randint(length_key, (), self.shortest, self.longest)
        place, column = jnp.arange(self.longest - 1)[:, None], jnp.arange(size)
        first, second = jax.random.randint(symbol_key, (2, size), 0, 2)
        # As in `rx.tasks.temporal_order`: the integers of [T/10, 2T/10) and of [4T/10, 5T/10).
        begins, ends = (-(-k * length // 10) for k in (np.array([1, 4]), np.array([2, 5])))
        at = jax.random.randint(place_key, (size, 2), begins, ends)
        symbols = 2 + jax.random.randint(other_key, (len(place), size), 0, INPUTS - 2)
        symbols = symbols.at[at[:, 0], column].set(first).at[at[:, 1], column].set(second)
        # A class of -1 is a row of zeros.
        xs = jax.nn.one_hot(jnp.where(place < length, symbols, -1), INPUTS)
        asked = jnp.broadcast_to(place == length - 1, symbols.shape)
        targets = jnp.where(asked, 2 * first + second, 0).astype(jnp.int32)
        return Batch(xs, targets, asked.astype(xs.dtype))


# --- the network ----------------------------------------------------------------------------------


class Weights(NamedTuple):
    """Of the recurrent part."""

    w_in: chex.Array  # [I, H]
    w_rec: chex.Array  # [H, H]
    b: chex.Array  # [H]


class Params(NamedTuple):
    """Of all."""

    cell: Weights
    w_out: chex.Array  # [H, O]
    b_out: chex.Array  # [O]


@dataclasses.dataclass(frozen=True)
class Start:
    """A way to begin: what the units compute, and how large the weights are."""

    name: str
    activation: Any
    size: float  # a standard deviation
    incoming: int | None = None  # how many recurrent weights of a unit are not 0
    radius: float | None = None  # the largest |eigenvalue| of w_rec

    def init(self, key: chex.PRNGKey) -> Params:
        """Normal weights, and biases of zero."""
        shapes = ((INPUTS, UNITS), (UNITS, UNITS), (UNITS, CLASSES))
        keys = jax.random.split(key, 4)
        w_in, w_rec, w_out = (
            self.size * jax.random.normal(one, shape)
            for one, shape in zip(keys, shapes, strict=False)
        )
        if self.incoming is not None:
            order = jnp.argsort(jax.random.uniform(keys[3], (UNITS, UNITS)), 0)
            w_rec = jnp.where(order < self.incoming, w_rec, 0.0)
        if self.radius is not None:
            largest = np.max(np.abs(np.linalg.eigvals(np.asarray(w_rec, np.float64))))
            w_rec = w_rec * (self.radius / largest)
        return Params(Weights(w_in, w_rec, jnp.zeros(UNITS)), w_out, jnp.zeros(CLASSES))

    def cell(self) -> Cell:
        """`x' = phi(x) W_rec + u W_in + b`, which is its output too.

        Its state is what comes before phi, as in equation (2) of the publication: so the Jacobian
        of a step, with its state constant, depends on W_rec alone, and so does Omega.
        """
        return Cell(
            init=lambda key: self.init(key).cell,
            initial_state=lambda params, batch=(): jnp.zeros((*batch, UNITS)),
            step=PreActivation(self.activation),
        )

    def read(self, params: Params, states: chex.Array) -> chex.Array:
        """Logits `[T, B, O]` of states `[T, B, H]`."""
        return self.activation(states) @ params.w_out + params.b_out


@dataclasses.dataclass(frozen=True)
class PreActivation:
    """The step of that cell."""

    activation: Any

    def __call__(self, params: Weights, state: Any, x: Any) -> tuple[Any, Any]:
        state = self.activation(state) @ params.w_rec + x @ params.w_in + params.b
        return state, state


BASIC = Start("basic tanh", jnp.tanh, 0.1)
STARTS = (
    Start("sigmoid", jax.nn.sigmoid, 0.01),
    BASIC,
    Start("smart tanh", jnp.tanh, 0.01, incoming=15, radius=0.95),
)


# --- training -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Method:
    """How a network is trained."""

    start: Start
    strength: float  # of Omega
    data: OfAnyLength

    def objective(self, params: Params, batch: Batch) -> chex.Array:
        """The cross-entropy at the end, and Omega of its errors."""
        from recurrax.cures.penalties import omega

        cell = self.start.cell()
        zeros = cell.initial_state(params.cell, batch.xs.shape[1:-1])
        _, ys = unroll(cell, params.cell, zeros, batch.xs)
        total = losses.cross_entropy(self.start.read(params, ys), batch)
        if self.strength:
            constant = jax.lax.stop_gradient(params)

            def loss(ys: chex.Array) -> chex.Array:
                return losses.cross_entropy(self.start.read(constant, ys), batch)

            total += self.strength * omega(cell, params.cell, zeros, batch.xs, loss)
        return total


@partial(jax.jit, static_argnums=0)
def advance(method: Method, params: Params, keys: chex.PRNGKey, first: Any, count: Any) -> Params:
    """Take `count` updates of each seed `[S]`, from number `first` on."""
    import optax

    from recurrax.cures.clipping.global_norm import clip_by_global_norm

    optimizer = optax.chain(clip_by_global_norm(CLIP), optax.sgd(RATE))

    def one(params: Params, key: chex.PRNGKey) -> Params:
        def body(index: Any, both: Any) -> Any:
            params, state = both
            batch = method.data(jax.random.fold_in(key, first + index), BATCH)
            slope = jax.grad(method.objective)(params, batch)
            updates, state = optimizer.update(slope, state, params)
            return optax.apply_updates(params, updates), state

        last: Params = jax.lax.fori_loop(0, count, body, (params, optimizer.init(params)))[0]
        return last

    return jax.vmap(one)(params, keys)


@partial(jax.jit, static_argnums=(0, 1, 4))
def wrong(start: Start, data: Any, params: Params, key: chex.PRNGKey, count: int) -> chex.Array:
    """How many of so many fresh sequences, a multiple of `PIECE`, each seed has wrong, `[S]`."""
    cell = start.cell()

    def one(params: Params) -> chex.Array:
        def piece(index: chex.Array) -> chex.Array:
            batch = data(jax.random.fold_in(key, index), PIECE)
            zeros = cell.initial_state(params.cell, (PIECE,))
            _, ys = unroll(cell, params.cell, zeros, batch.xs)
            right = losses.right(start.read(params, ys), batch)
            return jnp.sum(~right * batch.weights).astype(jnp.int32)

        return jnp.sum(jax.lax.map(piece, jnp.arange(count // PIECE)))

    return jax.vmap(one)(params)


class Trained(NamedTuple):
    """Where several seeds came to."""

    params: Params
    wrong: np.ndarray  # [S], of `TEST`
    updates: int


def train(method: Method) -> Trained:
    """Train until no seed has a sequence wrong, or the updates are used up."""
    init_key, data_key, test_key = jax.random.split(jax.random.key(0), 3)
    each = [method.start.init(key) for key in jax.random.split(init_key, SEEDS)]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    keys = jax.random.split(data_key, SEEDS)
    updates = 0
    while updates < UPDATES:
        count = min(CHECK_EVERY, UPDATES - updates)
        params = advance(method, params, keys, updates, count)
        updates += count
        key = jax.random.fold_in(test_key, updates)
        missed = np.asarray(wrong(method.start, method.data, params, key, TEST))
        if not missed.any():
            break
    return Trained(params, missed, updates)


# --- what is claimed ------------------------------------------------------------------------------


def misclassified() -> Iterator[Row]:
    """For each start without and with Omega; and of the basic tanh at other lengths."""
    data = OfAnyLength(SHORTEST, LONGEST)
    shares: dict[float, list[float]] = {0.0: [], STRENGTH: []}
    for start in STARTS:
        for strength, method in ((0.0, "clip"), (STRENGTH, "clip and Omega")):
            trained = train(Method(start, strength, data))
            found = trained.wrong / TEST
            shares[strength].extend(found)
            reason = (
                f"{np.sum(found < SUCCESS)} of {SEEDS} solve it (below 1 %) within "
                f"{trained.updates:,} updates; theirs: longer sequences, up to {THEIR_UPDATES:,}"
            )
            given = start is BASIC and strength > 0  # the one of which the text has a number
            what = f"{start.name}, {method}: wrong at T = {SHORTEST} to {LONGEST - 1}"
            yield not_comparable(what, 0.0 if given else math.nan, found, reason)
            if given:
                yield from _at_other_lengths(trained)
    gained = np.array(shares[0.0]) - np.array(shares[STRENGTH])
    note = f"each start and seed; {np.sum(gained > 0)} of {len(gained)} are above 0"
    holds = bool(np.median(gained) > 0)
    yield stated("wrong, without Omega - with it", gained, holds, "Omega helps to learn it", note)


def _at_other_lengths(trained: Trained) -> Iterator[Row]:
    reason = f"theirs learned at T = 50 to 200, ours at {SHORTEST} to {LONGEST - 1}"
    for length in LONGER:
        data = OfAnyLength(length, length + 1)
        missed = wrong(BASIC, data, trained.params, jax.random.key(length), PIECE)
        what = f"the same networks, wrong at T = {length:,}"
        yield not_comparable(what, 0.0, np.asarray(missed) / PIECE, reason)


TELLS_ORDER = Claim(
    "pascanu-order",
    "50 units learn the order of two symbols by clipped descent with Omega, at any length",
    "Pascanu, Mikolov and Bengio 2013, section 4.1.1; starts: RNN.py of "
    "github.com/pascanur/trainingRNNs",
    f"a small part of their budget: T of a batch from {SHORTEST} to {LONGEST - 1}, not 50 to 200, "
    f"and {UPDATES:,} updates at most; {UNITS} units, rate {RATE:g}, batch {BATCH}, clip {CLIP:g}, "
    f"{STRENGTH:g} Omega as in equation 9, {TEST:,} test sequences, {SEEDS} seeds",
    misclassified,
    long=True,
)
