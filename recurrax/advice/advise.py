"""`advise`: which start, or which cure, makes a cell's gradient last as long as it must."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from recurrax import checks, keys
from recurrax.advice.candidates import Subject, candidates
from recurrax.advice.outcome import Advice, Candidate, Option
from recurrax.advice.prove import Budget, proven
from recurrax.advice.start import distance, measure, typical_norm
from recurrax.cell import check_cell
from recurrax.interop.describe import describe
from recurrax.tasks.batch import Batch
from recurrax.tasks.task import Task
from recurrax.train.network import network

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.advice.outcome import Start
    from recurrax.cell import Cell
    from recurrax.train.network import Network

_EXAMPLES = 16  # sequences along which a start is measured
_UPDATES = 50  # by a penalty alone


def advise(
    cell: Cell,
    data: Task | chex.Array,
    *,
    horizon: float | None = None,
    key: chex.PRNGKey,
    seeds: int = 3,
    prove: bool = False,
    steps: int = 2000,
    batch_size: int = 32,
    learning_rate: float = 0.005,
    tell: Callable[[int, int, str], None] | None = None,
) -> Advice:
    """Try the cures that fit a cell, measure each, and rank them.

    Each is a way to begin (a gain, a bias, other recurrent weights, another cell of the library at
    as many parameters) or a penalty, tried on S seeds. What is ranked by is, in nats,

        distance = mean_s + std_s of
            max(0, log(horizon / h)) + max(0, log ||d s_T / d s_0|| - log 20)
            + log(sigma_max / sigma_rms) + max(0, log ||gradient|| - log 20)

    with h the median over the sequences of `rx.flow.horizon`, sigma the singular values of
    `d s_T / d s_0`: a gradient that is felt too short, one that grows, one that is carried by few
    directions of the state only, and one that is steep; and all of it that depends on the seed.

    Args:
      cell: a `Cell`.
      data: a `rx.tasks.Task`, or sequences `[T, B, I]` of your own.
      horizon: how far back the gradient is to be felt, in steps, 1 to T; T by default.
      key: of the weights and of the sequences.
      seeds: S.
      prove: whether to train the best three and the default on the task, on the same batches, by
        `rx.train.compare` with Adam, all behind a clip at `Advice.clip`.
      steps: training steps of each.
      batch_size: B of each seed.
      learning_rate: of all.
      tell: `tell(done, total, words)` after each candidate and each report of training.

    Returns:
      An `Advice`; its `options` are ranked by the start alone. What training made of them is in
      `proof` and `verdict`.

    Raises:
      ValueError, TypeError: if an argument is not as described, sequences do not fit the cell or
        are not finite, or a proof is asked for without a task.

    Example:
      >>> import jax, recurrax as rx
      >>> task = rx.tasks.adding(30)
      >>> found = rx.advise(rx.cells.lstm(2, 4), task, key=jax.random.key(0), seeds=2)
      >>> found.best.distance < found.default.distance
      True
      >>> print(found.best.candidate.code.splitlines()[-1])
      cell = dataclasses.replace(cell, init=init)
    """
    begin = time.perf_counter()
    check_cell("rx.advise", cell)
    checks.check_key(key)
    checks.check_positive_int("seeds", seeds)
    given = _given(cell, data, key, prove)
    wanted = _wanted(horizon, given.batch.xs.shape[0])
    budget = Budget(steps, batch_size, learning_rate)
    drawn = jax.random.split(key, seeds)
    params = cell.init(drawn[0])
    floats = next(leaf.dtype for leaf in jax.tree.leaves(params))
    family = (describe(params) or {}).get("family")
    subject = Subject(cell, params, given.batch.xs.astype(floats), wanted, family)
    tried, skipped = candidates(subject)
    options, norms = [], None
    for number, candidate in enumerate(tried):
        start = _started(candidate, given, drawn)
        norms = start.gradient_norm if norms is None else norms
        options.append(Option(candidate, start, distance(start, wanted), None))
        if tell is not None:
            tell(number + 1, len(tried), candidate.name)
    default = options[0]
    ranked = sorted(options, key=lambda option: option.distance)
    clip = typical_norm(default.start.gradient_norm)
    found = Advice(
        subject=repr(cell),
        data=given.words,
        length=given.batch.xs.shape[0],
        wanted=wanted,
        seeds=seeds,
        options=tuple(ranked),
        default=default,
        clip=clip,
        verdict="",
        skipped=skipped,
        seconds=0.0,
    )
    found = proven(found, given.task, budget, key, tell) if prove else found
    return found._replace(
        verdict=found.verdict or _verdict(found), seconds=time.perf_counter() - begin
    )


# --- what is given --------------------------------------------------------------------------------


class _Given(NamedTuple):
    """The data that a start is measured on."""

    task: Task | None
    batch: Any
    output_size: int
    loss: Callable[[Any, Any], Any]
    words: str


def _given(cell: Any, data: Any, key: Any, prove: bool) -> _Given:
    if isinstance(data, Task):
        train = None if data.split is None else data.split().train
        batch = data.draw(keys.purpose(key, keys.EXAMPLES), _EXAMPLES, train)
        words = f"{data.name}, T = {data.length}"
        return _Given(data, batch, data.output_size, data.loss, words)
    if prove:
        raise ValueError(
            "prove=True trains on a task, but sequences alone do not say what is to be learnt: "
            "give a rx.tasks.Task, such as rx.tasks.adding(200)"
        )
    if not hasattr(data, "ndim"):
        raise TypeError(
            "data must be a rx.tasks.Task, or sequences, an array [T, B, I]; got "
            f"{type(data).__name__}"
        )
    if data.ndim != 3 or 0 in data.shape:
        raise ValueError(
            f"data must be sequences [T, B, I], time first, with none of them 0; got shape "
            f"{tuple(data.shape)}"
        )
    if not jnp.issubdtype(data.dtype, jnp.floating):
        raise TypeError(f"data must be floating point, got {data.dtype}: cast it, or one-hot")
    checks.check_finite("data", data, "Leave those steps out, or fill them.")
    xs = jnp.asarray(data)[:, :_EXAMPLES]
    batch = Batch(xs, jnp.zeros((*xs.shape[:2], 1)), jnp.ones(xs.shape[:2]))
    return _Given(None, batch, 1, _mean_square, f"the data given, T = {len(xs)}")


def _mean_square(outputs: chex.Array, batch: Any) -> chex.Array:
    del batch
    return jnp.mean(jnp.square(outputs))


def _wanted(horizon: Any, length: int) -> float:
    if horizon is None:
        return float(length)
    checks.check_number("horizon", horizon)
    if not 1 <= horizon <= length:
        raise ValueError(
            f"horizon must be from 1 to the T = {length} steps of the data, since it is measured "
            f"on them; got {horizon!r}. Give longer sequences for a longer one."
        )
    return float(horizon)


# --- measuring ------------------------------------------------------------------------------------


def _started(candidate: Candidate, given: _Given, drawn: chex.PRNGKey) -> Start:
    """The start of a candidate; a penalty's is what some steps of it alone make of the weights."""
    features = int(given.batch.xs.shape[-1])
    net = network(candidate.cell, given.output_size, features)
    params = jax.vmap(net.init)(drawn)
    if candidate.cure.regularizer is not None:
        params = params._replace(cell=_after_penalty(net, candidate, params, given.batch.xs))
    return measure(net, params, given.batch, given.loss)


def _after_penalty(net: Network, candidate: Candidate, params: Any, xs: Any) -> Any:
    cell, optimizer = net.cell, optax.adam(0.003)
    regularizer: Any = candidate.cure.regularizer

    @jax.jit
    def one(own: Any, inputs: Any) -> Any:
        def penalty(own: Any) -> Any:
            return regularizer(cell, own, cell.initial_state(own, inputs.shape[1:-1]), inputs)

        def update(_: Any, both: Any) -> Any:
            own, state = both
            updates, state = optimizer.update(jax.grad(penalty)(own), state, own)
            return optax.apply_updates(own, updates), state

        return jax.lax.fori_loop(0, _UPDATES, update, (own, optimizer.init(own)))[0]

    inputs = net.inputs(jax.tree.map(lambda leaf: leaf[0], params), xs)
    return jax.vmap(one, in_axes=(0, None))(params.cell, inputs)


def _verdict(found: Advice) -> str:
    best, default = found.best, found.default
    if best is default:
        return "None of what was tried is nearer to the wanted horizon than the cell as it is."
    return (
        f"{best.candidate.name} is nearest to what is wanted: its gradient is felt "
        f"{_steps(best)}, the default's {_steps(default)}, of {found.wanted:g} wanted. "
        "Nothing was trained."
    )


def _steps(option: Option) -> str:
    middle = float(np.median(option.start.horizon))
    return "without end" if np.isinf(middle) else f"{middle:.0f} steps"
