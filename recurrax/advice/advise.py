"""`advise`: which start, or which cure, makes a cell's gradient last as long as it must."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.advice.cures_that_fit import check_cures, cures_that_fit
from recurrax.advice.given import Given, given_data, wanted_horizon
from recurrax.advice.outcome import Advice, Candidate, Option
from recurrax.advice.prove import Budget, proven
from recurrax.advice.start import clip_level, distance, measure, measured_after_penalty
from recurrax.advice.subject import Subject, subject_of
from recurrax.cell import check_cell
from recurrax.train.networks.network import network
from recurrax.train.presets import Cure
from recurrax.words import first_line, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import chex

    from recurrax.advice.outcome import Start
    from recurrax.cell import Cell
    from recurrax.tasks.task import Task


def advise(
    cell: Cell,
    data: Task | chex.Array,
    *,
    horizon: float | None = None,
    key: chex.PRNGKey,
    cures: Sequence[str] | None = None,
    seeds: int = 3,
    prove: bool = False,
    steps: int = 2000,
    batch_size: int = 32,
    learning_rate: float = 0.005,
    tell: Callable[[int, int, str], None] | None = None,
) -> Advice:
    """Try the cures that fit a cell, measure each, and rank them.

    Each is another way to begin (a gain, a bias, other recurrent weights), a penalty, or another
    cell of the library at as many parameters, tried on S seeds. They are ranked by, in nats,

        distance = mean_s + std_s of
            max(0, log(horizon / h)) + max(0, log ||d s_T / d s_0|| - log 20)
            + log(sigma_max / sigma_rms) + max(0, log ||gradient|| - log 20)

    with h the median over the sequences of `rx.flow.horizon`, and sigma the singular values of
    `d s_T / d s_0`. The four terms are a gradient that is felt too short, one that grows, one that
    few directions of the state carry, and one whose first step is steep. What depends on the seed
    counts against a start by its standard deviation. Nothing in it was fitted to a task.

    Args:
      cell: a `Cell`, a stack of cells included.
      data: a `rx.tasks.Task`, or sequences `[T, B, I]` of your own, of which 8 are measured.
      horizon: how far back the gradient is to be felt, in steps, 1 to T; T by default.
      key: of the weights and of the sequences.
      cures: names of what is tried, all by default: "critical gain", "gain", "critical",
        "orthogonal", "identity", "forget bias", "chrono", "uniform gate", "omega", "flossing",
        "another cell".
      seeds: S.
      prove: whether to train the best three and the default on the task, all seeds of one in one
        program, on the same batches with Adam and behind a clip at `Advice.clip`.
      steps: training steps of each, if it is proven.
      batch_size: B of each seed.
      learning_rate: of all.
      tell: `tell(done, total, words)` after each candidate, and then after each report of training.

    Returns:
      An `Advice`. Its `options` are ranked by their starts alone, also where they were trained:
      `verdict` says who learned, and whether the first choice did. A cure that does not fit is in
      `skipped`, with the reason. A gain is calibrated on the first seed, and tried on all. The
      start of a penalty is what 8 steps of Adam, of 0.02, on the penalty alone make of the cell's
      own. The `code` of a candidate is at most three lines, in which `rx`, `cell`, its `params` and
      sequences `xs` are known; they leave the new one in `cell` or `params`, or the argument of
      `rx.train.fit` in `regularizer`.

    Raises:
      ValueError, TypeError: if an argument is not as described, sequences do not fit the cell or
        are not finite, or a proof is asked for without a task.

    Example:
      >>> import jax, recurrax as rx
      >>> xs = jax.random.normal(jax.random.key(0), (30, 8, 2))
      >>> options = {"horizon": 20, "cures": ["chrono", "identity"], "key": jax.random.key(1)}
      >>> found = rx.advise(rx.cells.lstm(2, 4), xs, **options)
      >>> print(found.best.candidate.code.splitlines()[-1])
      cell = dataclasses.replace(cell, init=init)
      >>> found.best.distance < found.default.distance, found.skipped["identity"]
      (True, 'it is for an Elman network of relu units')
    """
    begin = time.perf_counter()
    check_cell("rx.advise", cell)
    checks.check_key(key)
    checks.check_positive_int("seeds", seeds)
    if tell is not None and not callable(tell):
        raise TypeError(f"tell must be a function tell(done, total, words), got {tell!r}")
    names = check_cures(cures)
    budget = Budget(steps, batch_size, learning_rate).checked(prove, data)
    given = given_data(data, key)
    length = len(given.batches[0].xs)
    wanted = wanted_horizon(horizon, length)
    drawn = jax.random.split(key, seeds)
    default = Candidate("default", "begin as the cell does", cell, Cure(), "")
    start, clip = _default(default, given, drawn)
    options = [Option(default, start, distance(start, wanted), None)]
    tried, skipped = cures_that_fit(_subject(cell, given, drawn[0], wanted), names)
    for number, candidate in enumerate(tried):
        if tell is not None:
            tell(number + 1, len(tried) + 1, candidate.name)
        try:
            start = _started(candidate, given, drawn)
        except (TypeError, ValueError, NotImplementedError) as error:
            skipped[candidate.name] = first_line(error)
            continue
        options.append(Option(candidate, start, distance(start, wanted), None))
    if tell is not None:
        tell(len(tried) + 1, len(tried) + 1, "the starts are measured")
    found = Advice(
        subject=repr(cell),
        data=given.words,
        length=length,
        wanted=wanted,
        seeds=seeds,
        options=tuple(sorted(options, key=lambda option: option.distance)),
        default=options[0],
        clip=clip,
        verdict="",
        skipped=skipped,
        seconds=0.0,
    )
    found = found._replace(verdict=_verdict(found))
    found = proven(found, given.task, budget, key, tell) if prove else found
    return found._replace(seconds=time.perf_counter() - begin)


# --- measuring ------------------------------------------------------------------------------------


def _default(candidate: Candidate, given: Given, drawn: chex.PRNGKey) -> tuple[Start, float]:
    """The start of the cell as it is, and the level of clipping that it gives."""
    net = network(candidate.cell, given.output_size, given.features)
    try:
        params = jax.vmap(net.init)(drawn)
        start = measure(net, params, given.batches[0], given.loss)
    except TypeError as error:  # of a step of one's own, which says nothing of the data
        raise TypeError(
            f"the cell cannot be run on data of {given.features} features: {first_line(error)}"
        ) from error
    return start, clip_level(net, params, given.batches, given.loss)


def _started(candidate: Candidate, given: Given, drawn: chex.PRNGKey) -> Start:
    net = network(candidate.cell, given.output_size, given.features)
    params = jax.vmap(net.init)(drawn)
    regularizer = candidate.cure.regularizer
    if regularizer is None:
        return measure(net, params, given.batches[0], given.loss)
    return measured_after_penalty(net, params, given.batches[0], given.loss, regularizer)


def _subject(cell: Cell, given: Given, key: chex.PRNGKey, wanted: float) -> Subject:
    params = network(cell, given.output_size, given.features).init(key)
    batch: Any = given.batches[0]
    xs = jnp.asarray(batch.xs, params.w_out.dtype)
    return subject_of(cell, params.cell, xs, wanted, batch.mask)


# --- in words -------------------------------------------------------------------------------------


def _verdict(found: Advice) -> str:
    """What was measured of the starts, and no more than that."""
    best, default = found.best, found.default
    wanted = steps_of(found.wanted)
    words = f"{wanted} are wanted, and the gradient of the cell as given is felt {_felt(default)}"
    if best is default:
        return f"{words}; nothing that was tried comes nearer. Nothing was trained."
    words = f"{words}; by the distance {best.candidate.name} comes nearest, felt {_felt(best)}."
    kept = next(o for o in found.options if not o.candidate.name.startswith("another cell"))
    if kept is not best:
        name = "the default" if kept is default else kept.candidate.name
        words = f"{words} Of what keeps the cell, {name} does, felt {_felt(kept)}."
    return f"{words} Nothing was trained."


def _felt(option: Option) -> str:
    middle = float(np.median(option.start.horizon))
    if np.isnan(middle):
        return "for how long cannot be said, since numbers are not finite"
    return "without end" if np.isinf(middle) else steps_of(middle)
