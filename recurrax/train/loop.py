"""Training steps of one seed or many in one compiled loop, called from report to report."""

from __future__ import annotations

import dataclasses
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from recurrax import checks, keys
from recurrax.cures.clipping.clip_state_gradient import without_clip
from recurrax.cures.clipping.global_norm import clip_counts, global_norm
from recurrax.flow.watch import Watched, not_measured, watch
from recurrax.train.source import ONE_DEVICE, Placement
from recurrax.train.truncation.chunk_length import chunk_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import chex

    from recurrax.tasks.batch import Batch
    from recurrax.tasks.task import Task
    from recurrax.train.networks.objective import Objective
    from recurrax.train.source import Draw, Feed

_SHORT, _LONG = 0.2, 0.8  # seconds of one call, between which Ctrl-C is heard and the bar moves


# --- one training step ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Program:
    """All that decides what is compiled."""

    objective: Objective
    draw: Draw
    optimizer: Any
    flow_every: int | None = None
    placement: Placement = ONE_DEVICE
    many: bool = False  # whether carry and sums have a leading axis [S], one entry a seed

    def truncated(self, steps: int | None) -> Program:
        """The same in chunks of so many steps, 0 until they are known."""
        objective = dataclasses.replace(self.objective, truncate=steps)
        return dataclasses.replace(self, objective=objective)


class Carry(NamedTuple):
    """What one step leaves to the next, and all that a run needs to go on."""

    params: Any
    opt_state: Any
    key: chex.PRNGKey  # as it was given
    step: chex.Array  # int32 [], how many are done
    watched: dict[str, Watched] | None = None
    state: Any = None  # what rows leave to the next batch, [B, ...] each; None where all begin


def train_step(program: Program, carry: Carry, batch: Batch) -> tuple[Carry, dict[str, Any]]:
    """`params <- params + update(d (loss + regularizer) / d params)`, and what was seen by name.

    Loss and metrics are those of the params before the update.
    """
    key = keys.of_step(carry.key, carry.step, keys.DROPOUT)
    derivative = jax.value_and_grad(program.objective.loss, has_aux=True)
    (total, (seen, state)), gradient = derivative(carry.params, batch, key, carry.state)
    seen["gradient_norm"] = global_norm(gradient)
    watched = None if program.flow_every is None else _watched(program, carry, batch)

    # The loss is what a schedule such as reduce_on_plateau looks at; others ignore it.
    optimizer = optax.with_extra_args_support(program.optimizer)
    updates, opt_state = optimizer.update(gradient, carry.opt_state, carry.params, value=total)
    before, after = clip_counts(carry.opt_state), clip_counts(opt_state)
    if before:
        counted = [new > old for (old, _), (new, _) in zip(before, after, strict=True)]
        seen["clip_fraction"] = jnp.any(jnp.stack(counted)).astype(jnp.float32)
    new = optax.apply_updates(carry.params, updates)
    return Carry(new, opt_state, carry.key, carry.step + 1, watched, state), seen


def _watched(program: Program, carry: Carry, batch: Batch) -> dict[str, Watched]:
    """Return the gradient flow of each recurrent part."""
    found = {}
    for name, part in program.objective.parts(carry.params, batch).items():
        last = None if carry.watched is None else carry.watched[name]
        options: dict[str, Any] = {"mask": part.mask, "last": last, "every": program.flow_every}
        cell: Any = part.cell
        found[name] = watch(without_clip(cell), *part[1:4], step=carry.step, **options)
    return found


# The number of steps is an argument, not a constant: one program serves any of them, and since it
# is one, a run cut into other pieces ends with the same bits.
@partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance(
    program: Program, carry: Carry, sums: chex.Array, data: Any, count: Any
) -> tuple[Carry, chex.Array]:
    """Take `count` training steps, of each seed.

    Sums `[K + 1]` or `[S, K + 1]` are what was seen, in the order of its names, added over the
    steps; and the largest gradient norm.
    """

    def one(carry: Carry, sums: chex.Array) -> tuple[Carry, chex.Array]:
        def body(index: Any, both: tuple[Carry, chex.Array]) -> tuple[Carry, chex.Array]:
            carry, sums = both
            drawn = program.draw(carry.key, carry.step, index, data)
            carry, seen = train_step(program, carry, program.placement.spread(drawn))
            largest = jnp.maximum(sums[-1], seen["gradient_norm"])
            return carry, jnp.append(sums[:-1] + _stacked(seen), largest)

        both: tuple[Carry, chex.Array] = jax.lax.fori_loop(0, count, body, (carry, sums))
        return both

    after: tuple[Carry, chex.Array] = (jax.vmap(one) if program.many else one)(carry, sums)
    return program.placement.whole(after)  # type: ignore[no-any-return]


def _stacked(seen: dict[str, Any]) -> chex.Array:
    """Return what was seen `[K]`, in the order of its names."""
    return jnp.stack([checks.at_least(seen[name], jnp.float32) for name in sorted(seen)])


# --- many of them ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Schedule:
    """After how many training steps what is due, and when training ends."""

    steps: int
    report_every: int
    checkpoint_every: int
    evaluate_every: int | None = None
    flow_every: int | None = None
    stop_when_solved: bool = False
    truncate_every: int | None = None

    def __post_init__(self) -> None:
        may_be_none = ("evaluate_every", "flow_every", "truncate_every")
        for name in ("steps", "report_every", "checkpoint_every", *may_be_none):
            value = getattr(self, name)
            if value is not None or name not in may_be_none:
                checks.check_positive_int(name, value)

    def next_report(self, step: int) -> int:
        """Return where the next report is due: of the step alone, to survive an interruption."""
        every = (self.report_every, self.evaluate_every, self.flow_every, self.checkpoint_every)
        due = [step + n - step % n for n in (*every, self.truncate_every) if n]
        return min([self.steps, *due])


def check_old_spelling(inner: Any) -> None:
    """Raise if the training steps between two reports have the name that they had before."""
    if inner is not None:
        raise TypeError(f"inner is called report_every now: write report_every={inner!r}")


class Report(NamedTuple):
    """What was seen since the report before."""

    step: int  # training steps done in all
    taken: int  # of these, since the report before
    totals: dict[str, Any]  # [] or [S] by name, summed over these steps
    largest: Any  # [] or [S], the largest gradient norm of these steps
    seconds: float


class Loop:
    """Training that goes on from a carry, for one seed or, with a leading axis [S], for many."""

    def __init__(self, program: Program, carry: Carry, feed: Feed) -> None:
        self.step = int(np.ravel(carry.step)[0])
        self.ended = False  # the user's batches
        feed.skip(self.step)

        def first(carry: Carry) -> Any:
            batch = program.draw(carry.key, carry.step, 0, feed.example)
            after, seen = train_step(program, carry, batch)
            return after.watched, seen, _stacked(seen)

        shapes = jax.eval_shape(jax.vmap(first) if program.many else first, carry)
        carry = carry._replace(watched=jax.tree.map(not_measured, shapes[0]))
        self.names = sorted(shapes[1])
        zeros = jnp.zeros((*shapes[2].shape[:-1], len(self.names) + 1), shapes[2].dtype)
        self.carry, self._zeros = program.placement.place((carry, zeros))
        self._program, self._feed = program, feed
        self._pace = 1  # steps in one call
        if self.truncate != 0:
            self._compile(feed.example)

    @property
    def truncate(self) -> int | None:
        """Steps of a chunk of truncated backpropagation, if there are any."""
        return getattr(self._program.objective, "truncate", None)

    def run(
        self,
        schedule: Schedule,
        stop: threading.Event | None = None,
        moved: Callable[[int], None] | None = None,
    ) -> Iterator[Report]:
        """Train to the end of the schedule or of the batches, or until `stop` is set.

        Yields a `Report` where one is due, and where training stops. After each call of the
        compiled loop `moved(step)` is called.
        """
        stop = stop or threading.Event()
        together = jax.process_count() > 1  # then each must cut its calls as the others do
        if together:
            self._pace = schedule.report_every
        while self.step < schedule.steps and not (self.ended or stop.is_set()):
            begin, seconds, sums = self.step, 0.0, self._zeros
            goal = schedule.next_report(begin)
            while self.step < goal and not stop.is_set():
                count, data = self._feed.take(min(goal - self.step, self._pace))
                if not count:
                    self.ended = True
                    break
                if schedule.truncate_every and self.step % schedule.truncate_every == 0:
                    self._choose_chunks(data)
                clock = time.perf_counter()
                sums = self._call(sums, data, count)
                took = time.perf_counter() - clock
                seconds += took
                self.step += count
                if moved is not None:
                    moved(self.step)
                # Calls become longer or shorter; what they compute does not depend on it.
                if took < _SHORT and count == self._pace and not together:
                    self._pace *= 2
                elif took > _LONG and not together:
                    self._pace = max(1, self._pace // 2)
            if self.step > begin:
                row = np.asarray(sums).T
                totals = dict(zip(self.names, row, strict=False))
                yield Report(self.step, self.step - begin, totals, row[-1], seconds)

    def _choose_chunks(self, data: Any) -> None:
        """Let the next batch tell how long the chunks of truncated backpropagation are."""
        program = self._program.truncated(None)
        program = program.truncated(chunk_length(program, self.carry, data))
        if program != self._program:
            self._program = program
            self._compile(data)

    def _compile(self, data: Any) -> None:
        """Take no step, so that compiling is no part of the time that steps take."""
        self._call(self._zeros, data, 0)

    def _call(self, sums: Any, data: Any, count: int) -> Any:
        """Take `count` steps, wait for them, and return the sums."""
        self.carry, sums = advance(self._program, self.carry, sums, data, np.int32(count))
        return jax.block_until_ready(sums)


# --- and what they have learnt --------------------------------------------------------------------


def evaluate(
    program: Program, task: Task, params: Any, data: Batch, size: int
) -> dict[str, np.ndarray]:
    """Return loss and metrics, `[]` or `[S]` in float64, over all of a data set.

    They are means over pieces of at most `size` sequences, weighted by their sequences.
    """
    # Programs that differ in how they train are compiled once here.
    objective = dataclasses.replace(program.objective, regularizer=None, truncate=None)
    program = dataclasses.replace(program, objective=objective, optimizer=None, flow_every=None)
    count = data.weights.shape[1]
    means: dict[str, np.ndarray] = {}
    for begin in range(0, count, size):
        columns = np.arange(begin, min(begin + size, count))
        for name, value in _evaluate_piece(program, task, params, data, columns).items():
            share = np.asarray(value, np.float64) * len(columns) / count
            means[name] = means.get(name, 0.0) + share
    return means


@partial(jax.jit, static_argnums=(0, 1))
def _evaluate_piece(program: Program, task: Task, params: Any, data: Batch, columns: Any) -> Any:
    batch = task.take(data, columns)

    def one(params: Any) -> dict[str, Any]:
        seen: dict[str, Any] = program.objective.loss(params, batch)[1][0]
        return seen

    return program.placement.whole((jax.vmap(one) if program.many else one)(params))
