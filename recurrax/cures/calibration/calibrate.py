"""A few numbers of the params are changed until the gradient decays at the rate that is wanted."""

from __future__ import annotations

import contextlib
import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks, keys
from recurrax.cells.bidirectional import Bidirectional
from recurrax.cures.calibration.adjustments import adjustment
from recurrax.cures.calibration.root import Unreachable, find_root
from recurrax.flow.decay import decay
from recurrax.flow.horizon import rate as rate_of
from recurrax.flow.parts import Part, parts
from recurrax.flow.steps.trajectory import pose
from recurrax.unrolling.unroll import unroll
from recurrax.words import short, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import chex

    from recurrax.cell import Cell, StepFn
    from recurrax.cells.stack import BothWays

_EXACT = 16  # the size of a state up to which whole products are as fast as a few directions
_PROBES = 8
_FELT = 0.05  # the part of a gradient that is felt at the horizon, as in `flow.horizon`


class Calibrated(NamedTuple):
    """Params with the wanted rate, and what was done to them.

    Each number is by the name of its layer for layers, and `[S]` for the params of S seeds.
    """

    params: Any
    adjusted: Any  # the number that was found: a factor, or what is added to a bias
    before: Any  # the rate of the params as they were, in nats a step
    after: Any  # the rate now
    error: Any  # the standard error of `after`, over the sequences; NaN for a single one
    others: Any  # a tuple of other numbers in the range about which the rate is the same

    def __repr__(self) -> str:
        words = [f"{name}={_shown(getattr(self, name))}" for name in self._fields[1:]]
        return f"Calibrated({', '.join(words)})"


def calibrate(
    cell: Cell | StepFn | BothWays,
    params: Any,
    xs: Any,
    *,
    state: Any = None,
    mask: chex.Array | None = None,
    horizon: float | None = None,
    rate: float = 0.0,
    adjust: str | Callable[[Any, float], Any] = "gain",
    between: tuple[float, float] | None = None,
) -> Calibrated:
    """Change one number of the params until the gradient decays at a wanted rate on your data.

    The rate is what `rx.flow.rate(rx.flow.decay(cell, params, state, xs))` says, the mean over the
    sequences: 0 where a gradient neither vanishes nor explodes. Nothing is assumed of the cell: the
    rate is measured, first over the whole range of numbers and then, by bisection and
    interpolation, where it is what is wanted.

    The layers of a stack and the directions of `rx.bidirectional` are calibrated one after the
    other, from the inputs up, each as a cell of its own on the outputs of the calibrated layers
    below (`rx.flow.parts`).

    Args:
      cell: a `Cell`, what `rx.stack` or `rx.bidirectional` makes, or a step function.
      params: its params; or those of several seeds with a leading axis of seeds, as
        `jax.vmap(cell.init)(keys)` gives, each of which gets a number of its own.
      xs: the inputs `[T, *batch, I]`, like those that the cell is to work on.
      state: the state before the first step, or None for the initial state of a `Cell`.
      mask: bool `[T, *batch]`, as in `rx.unroll`; steps where it is False do not count.
      horizon: how far back a gradient is to be felt, in steps: the rate is `log(0.05) / horizon`.
        Above 0 and at most T.
      rate: in nats a step, where no horizon is given.
      adjust: `"gain"`, a factor of `w_rec`. The name of a gate, such as `"f"`: a number added to
        its block of the bias `b`, for a cell with a `rx.GateView`. The name of any other leaf of
        the params, such as `"unit.log_tau"`: a factor of it. Or a function
        `(params, number) -> params`.
      between: the numbers to look at, (low, high); by default factors from 1/64 to 64 and biases
        from -8 to 8. A function where the number 1 changes nothing is searched as a factor is, one
        where 0 changes nothing as a bias; any other needs this.

    Returns:
      A `Calibrated`, whose params have the dtypes they had. `after` is within 1e-5 of the wanted
      rate; within 1e-3 where it only comes near, or within `error` where it jumps with the number,
      as in half precision and of few relus. If the rate is the wanted one at several numbers,
      `adjusted` is the nearest to the present one and `others` has those that a scan by 25 points
      sees. `before` of a layer is on the outputs of the calibrated layers below. On other data of
      the same kind the rate differs by about `1.4 error`, which falls as `1 / sqrt(T B)`. The same
      arguments always give the same result.

    Raises:
      ValueError: if no number gives the rate, with the nearest that there is; if horizon is not
        from 0 to T, or given beside a rate; if there is no w_rec, no such gate or leaf; as
        `rx.flow.decay` does.
      TypeError: if adjust, between, horizon or rate is something else; under `jax.jit`.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.cells.gru(4, 16)
      >>> params = cell.init(jax.random.key(0))
      >>> xs = jax.random.normal(jax.random.key(1), (100, 8, 4))
      >>> found = rx.cures.calibrate(cell, params, xs)
      >>> bool(found.before < -0.1), abs(found.after) < 1e-3
      (True, True)
      >>> felt = rx.cures.calibrate(cell, params, xs, horizon=50, adjust="z")
      >>> round(felt.after, 3)  # log(0.05) / 50
      -0.06

    Source: the root is found by Brent's method (1973); what is measured, in `rx.flow.decay`.
    """
    given = jax.tree.leaves((params, state, xs, mask))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in given):
        raise TypeError("calibrate searches by the values it measures: call it outside jax.jit")
    params = jax.tree.map(jnp.asarray, params)
    target = _wanted(horizon, rate, xs, mask)
    if mask is not None and np.ndim(mask) == 1 and np.ndim(xs) == 3:  # one for all sequences
        mask = np.broadcast_to(np.asarray(mask)[:, None], np.shape(xs)[:2])

    def one(part: Part) -> Calibrated:
        return _calibrated(part, adjust, between, target)

    seeds = _seeds(cell, params)
    if seeds is None:
        return _by_layer(cell, params, state, xs, mask, one)
    found = []
    for k in range(seeds):
        own = jax.tree.map(lambda leaf, k=k: leaf[k], params)
        with _about(f"the params of seed {k}"):
            found.append(_by_layer(cell, own, state, xs, mask, one))
    return _together(found)


# --- what is wanted -------------------------------------------------------------------------------


def _wanted(horizon: Any, rate: Any, xs: Any, mask: Any) -> float:
    """The rate that is asked for."""
    checks.check_number("rate", rate)
    if horizon is None:
        return float(rate)
    checks.check_number("horizon", horizon)
    if rate:
        raise ValueError(
            f"horizon={horizon!r} and rate={rate!r} are two ways to say the same: give one of them"
        )
    longest = checks.check_steps(xs)
    if mask is not None:
        checks.check_flags("mask", mask, longest, None)
        longest = int(np.max(np.sum(mask, 0)))
    if not 0 < horizon <= longest:
        raise ValueError(
            f"horizon must be above 0 and at most T = {steps_of(longest)}, over which the rate is "
            f"measured; got {horizon!r}. Give longer xs for a longer one, or rate=0 for one "
            "without end."
        )
    return math.log(_FELT) / float(horizon)


def _seeds(cell: Any, params: Any) -> int | None:
    """How many seeds the params are of; None for the params of one."""
    if not hasattr(cell, "init"):
        return None
    try:
        single = jax.eval_shape(cell.init, keys.own(keys.CRITICAL))
    except Exception:  # an init of one's own that takes something else: it says nothing
        return None
    structures: list[Any] = [jax.tree.structure(tree) for tree in (single, params)]
    if structures[0] != structures[1]:
        return None
    pairs = list(zip(jax.tree.leaves(params), jax.tree.leaves(single), strict=True))
    count = {leaf.shape[0] for leaf, one in pairs if leaf.shape[1:] == one.shape and leaf.ndim}
    alike = all(leaf.ndim == one.ndim + 1 and leaf.shape[1:] == one.shape for leaf, one in pairs)
    return int(count.pop()) if alike and len(count) == 1 else None


# --- one part -------------------------------------------------------------------------------------


def _calibrated(part: Part, adjust: Any, between: Any, target: float) -> Calibrated:
    """The params of one layer in one direction, with the wanted rate."""
    cell, params, state, xs, mask, _ = part
    problem = pose(cell, params, state, xs, mask)
    steps = problem.length if mask is None else int(np.min(np.sum(mask, 0)))
    if steps == 0:
        raise ValueError(
            "mask is False throughout for one of the sequences: without time there is no rate. "
            "Leave such rows out."
        )
    what = adjustment(adjust, cell, params, between)
    exact = None if problem.size <= _EXACT else _PROBES
    known: dict[float, Any] = {}

    def quick(number: float) -> float:
        changed = what.change(params, number)
        return float(np.mean(_rates(cell, changed, state, xs, mask, _PROBES, quick=True)))

    def careful(number: float) -> float:
        changed = what.change(params, number)
        known[number] = np.asarray(_rates(cell, changed, state, xs, mask, exact), np.float64)
        return float(np.mean(known[number]))

    before = float(np.mean(_rates(cell, params, state, xs, mask, exact)))
    # Between the two norms is a factor of sqrt(N) at most, and the first is of a few directions.
    slack = (0.5 * math.log(problem.size) + 1) / (steps - steps // 2)
    middle = what.range.inverse(np.mean(what.range.along(np.array(what.range))))
    present = float(middle) if what.present is None else what.present
    given = quick, careful, what.range, present, target
    try:
        found = find_root(*given, slack=slack, allowed=lambda number: _error(known[number]))
    except Unreachable as reason:
        low, high = what.range
        raise ValueError(
            f"no {what.words} from {short(low)} to {short(high)} gives a rate of {target:.4g} a "
            f"step (a horizon of {_horizon(target)}): {reason}. Give other numbers with between=, "
            "another adjust, or another rate."
        ) from None
    rates, changed = known[found.number], what.change(params, found.number)
    after = float(np.mean(rates))
    return Calibrated(changed, found.number, before, after, _error(rates), found.others)


def _horizon(rate: float) -> str:
    return steps_of(math.log(_FELT) / rate) if rate < 0 else "no end"


def _error(rates: Any) -> float:
    """The standard error of the mean; NaN for one of one sequence, or of none that is finite."""
    known = rates.size > 1 and np.isfinite(rates).all()
    return float(np.std(rates, ddof=1) / rates.size**0.5) if known else math.nan


@partial(jax.jit, static_argnames=("cell", "probes", "quick"))
def _rates(
    cell: Any, params: Any, state: Any, xs: Any, mask: Any, probes: int | None, quick: bool = False
) -> Any:
    """The rate of each sequence, `[*batch]`; quick: of the Frobenius norm, by pushing alone.

    NaN where a state overflows, after which derivatives mean nothing.
    """
    found = decay(cell, params, state, xs, mask=mask, probes=probes)
    rates = rate_of(found._replace(log_norm=found.log_frobenius) if quick else found)
    last = jax.tree.leaves(unroll(cell, params, state, xs, mask=mask)[0])
    finite = jnp.array([jnp.isfinite(leaf).all() for leaf in last]).all()
    return jnp.where(finite, rates, jnp.nan)


# --- layers and seeds -----------------------------------------------------------------------------


def _by_layer(
    cell: Any, params: Any, state: Any, xs: Any, mask: Any, one: Callable[[Part], Calibrated]
) -> Calibrated:
    """Layers from the inputs up, each on what the ones below give, calibrated as they are."""
    found: dict[str, tuple[Any, ...]] = {}
    for name in parts(cell, params, state, xs, mask=mask):
        part = parts(cell, params, state, xs, mask=mask)[name]
        if part.cell is cell:
            return one(part)
        with _about(f"{name} of {cell}"):
            inside = _by_layer(*part[:5], one)
        places = [_PLACES[word] if word in _PLACES else int(word[5:]) for word in name.split("/")]
        params = _with(params, places[isinstance(cell, Bidirectional) :], inside.params)
        numbers = inside[1:]
        if isinstance(inside.adjusted, dict):  # a stack within
            for below in inside.adjusted:
                found[f"{name}/{below}"] = tuple(number[below] for number in numbers)
        else:
            found[name] = numbers
    every = zip(*found.values(), strict=True)
    return Calibrated(params, *(dict(zip(found, row, strict=True)) for row in every))


_PLACES = {"forward": 0, "backward": 1}


def _with(params: Any, places: list[int], new: Any) -> Any:
    """The params with those at a place replaced."""
    if not places:
        return new
    entries = list(params)
    entries[places[0]] = _with(entries[places[0]], places[1:], new)
    return type(params)(*entries) if hasattr(params, "_fields") else tuple(entries)


def _together(found: list[Calibrated]) -> Calibrated:
    """The results of several seeds, `[S]`."""
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(each.params for each in found))
    columns = zip(*(each[1:5] for each in found), strict=True)
    numbers: list[Any]
    numbers = [jax.tree.map(lambda *numbers: np.array(numbers), *column) for column in columns]
    others: Any = tuple(each.others for each in found)
    if isinstance(found[0].others, dict):
        others = {name: tuple(each[name] for each in others) for name in others[0]}
    return Calibrated(params, *numbers, *[others])


@contextlib.contextmanager
def _about(what: str) -> Iterator[None]:
    """What goes wrong in here is said to be about this."""
    try:
        yield
    except (TypeError, ValueError) as error:
        error.add_note(f"This is about {what}.")
        raise


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {_shown(each)}' for name, each in value.items())}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))}{',' * (len(value) == 1)})"
    return f"{value:.4g}" if isinstance(value, float) else checks.show(value)
