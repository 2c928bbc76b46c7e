"""What of the params is adjusted, by one number: a factor of some leaves, or an added bias."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.cures.calibration.root import Range
from recurrax.gated.step import GatedStep
from recurrax.words import unknown

if TYPE_CHECKING:
    from collections.abc import Callable

_FACTORS = Range(2.0**-6, 2.0**6)
_BIASES = Range(-8.0, 8.0)


class Adjustment(NamedTuple):
    """How a number changes the params."""

    words: str  # what the number is
    change: Callable[[Any, float], Any]  # (params, number) -> params
    present: float | None  # the number that changes nothing; None if there is none
    range: Range  # where to look for it


def adjustment(
    adjust: Any, cell: Any, params: Any, between: tuple[float, float] | None
) -> Adjustment:
    """What a user means by `adjust` and `between`, of one cell.

    Raises:
      ValueError, TypeError: if there is no such thing, or it changes nothing.
    """
    if callable(adjust):
        found = _of_function(adjust, params, between)
    elif isinstance(adjust, str):
        found = _of_name(adjust, cell, params)
    else:
        raise TypeError(
            'adjust must be "gain", the name of a gate or of a leaf of the params, or a function '
            f"(params, number) -> params; got {adjust!r}"
        )
    return found if between is None else found._replace(range=_checked(between))


def _checked(between: Any) -> Range:
    if not isinstance(between, (tuple, list)) or len(between) != 2:
        raise TypeError(f"between must be two numbers (low, high), got {between!r}")
    for number in between:
        checks.check_number("between", number)
    low, high = map(float, between)
    if low >= high:
        raise ValueError(f"between must be (low, high) with low < high, got {between!r}")
    return Range(low, high)


# --- by name --------------------------------------------------------------------------------------


def _of_name(name: str, cell: Any, params: Any) -> Adjustment:
    paths = {
        _written(path): jnp.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    floating = [p for p, leaf in paths.items() if jnp.issubdtype(leaf.dtype, jnp.floating)]
    gates = _gates_of(cell, params)
    leaves = _named("w_rec" if name == "gain" else name, floating)
    if name in gates and name != "gain":
        return _of_gate(name, gates[name], params)
    if leaves:
        shown = " and ".join(f"params.{path}" for path in leaves)
        if not any(np.any(paths[path]) for path in leaves):
            raise ValueError(
                f"adjust={name!r} is a factor of {shown}, which is 0 everywhere, so it changes "
                "nothing: begin from other params, or give a function (params, number) -> params"
            )
        return Adjustment(f"factor of {shown}", _scaling(frozenset(leaves)), 1.0, _FACTORS)
    if name == "gain":
        has = f"; {checks.named(cell)} has {', '.join(paths)}" if any(paths) else ""
        raise ValueError(
            "adjust is the recurrent gain by default, a factor of w_rec, and params has no w_rec"
            f"{has}. Give the name of a leaf, or a function (params, number) -> params."
        )
    known = dict.fromkeys([*(["gain"] if "w_rec" in paths else []), *gates, *floating])
    raise ValueError(f"adjust: {unknown('gate or leaf of the params', name, known)}")


def scaled(name: str, params: Any, factor: float) -> Any:
    """The params with each leaf of this name times a factor."""
    paths = [_written(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return _scaling(frozenset(_named(name, paths)))(params, factor)


def _written(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _named(name: str, paths: list[str]) -> list[str]:
    """The paths of leaves of a name, wherever they are."""
    return [path for path in paths if f".{path}".endswith(f".{name}")]


def _scaling(leaves: frozenset[str]) -> Callable[[Any, float], Any]:
    def change(params: Any, factor: float) -> Any:
        def one(path: Any, leaf: Any) -> Any:
            if _written(path) not in leaves:
                return leaf
            return _as_before(_wide(leaf) * factor, leaf)

        return jax.tree_util.tree_map_with_path(one, params)

    return change


def _wide(leaf: Any) -> Any:
    return checks.at_least(jnp.asarray(leaf), jnp.dtype("float32"))


def _as_before(wide: Any, leaf: Any) -> Any:
    return wide.astype(jnp.asarray(leaf).dtype)


def _of_gate(name: str, gate: int | None, params: Any) -> Adjustment:
    if gate is None:
        raise ValueError(
            f"adjust={name!r} is made from several gates, so that no bias is its own: take one of "
            "the others, or a function (params, number) -> params"
        )

    def change(params: Any, number: float) -> Any:
        step = params.w_rec.shape[1] // (params.w_rec.shape[1] // params.w_rec.shape[0])
        place = slice(gate * step, (gate + 1) * step)
        moved = _wide(params.b).at[place].add(number)
        return params._replace(b=_as_before(moved, params.b))

    return Adjustment(f"number added to the bias of {name}", change, 0.0, _BIASES)


def _gates_of(cell: Any, params: Any) -> dict[str, int | None]:
    """The pre-activation of each gate that the view of a cell names; None if it has none alone.

    What a gate is made from is seen by its derivatives: a GRU's candidate n sees the
    pre-activation of r and its own, and the one of r belongs to r, which sees nothing else.
    """
    step = getattr(cell, "step", cell)
    while not isinstance(step, GatedStep) and hasattr(step, "step"):  # a residual, or detached
        step = step.step
    if not isinstance(step, GatedStep) or step.view is None:
        return {}
    values, gates = step.view.values, step.gates
    unit = jax.tree.map(lambda leaf: 0.3 + 0 * _wide(leaf)[:1], params.unit)
    z_in, z_rec = (np.random.default_rng(0).uniform(0.2, 0.8, (2, gates, 1))).astype(np.float32)
    found = jax.jacobian(lambda z: jnp.concatenate(list(values(unit, z, z_rec))))(z_in)
    sees = {
        name: set(np.flatnonzero(row))
        for name, row in zip(step.view.names, found[..., 0], strict=True)
    }
    own: dict[str, int | None] = dict.fromkeys(sees)
    while single := {name: seen for name, seen in sees.items() if len(seen) == 1}:
        for name, seen in single.items():
            if seen:
                (own[name],) = map(int, seen)
        taken = {gate for gate in own.values() if gate is not None}
        sees = {name: seen - taken for name, seen in sees.items() if own[name] is None}
    return own


# --- by a function --------------------------------------------------------------------------------


def _of_function(adjust: Any, params: Any, between: Any) -> Adjustment:
    try:
        inspect.signature(adjust).bind(params, 1.0)
    except TypeError as error:
        raise TypeError(f"adjust must be a function adjust(params, number): {error}") from None
    except ValueError:  # some builtins have no signature
        pass
    present = next((number for number in (1.0, 0.0) if _same(adjust(params, number), params)), None)
    if present is None and between is None:
        raise ValueError(
            "adjust is a function by which neither 1 nor 0 leaves the params as they are, so it "
            "does not tell where to look: give between=(low, high)"
        )
    range_ = _FACTORS if present == 1 else _BIASES
    if present is not None and between is None and _same(adjust(params, range_.high), params):
        raise ValueError("adjust must change the params with its number, but gave them as they are")
    return Adjustment(f"number for {checks.named(adjust)}", adjust, present, range_)


def _same(changed: Any, params: Any) -> bool:
    """Whether nothing is changed; refuses what are no such params."""
    structures: list[Any] = [jax.tree.structure(tree) for tree in (changed, params)]
    if structures[0] != structures[1]:
        raise TypeError(
            "adjust must return params like those it is given, "
            f"{checks.show(jax.tree.map(jnp.asarray, params))}; got "
            f"{checks.show(changed)}"
        )
    pairs = list(zip(jax.tree.leaves(changed), jax.tree.leaves(params), strict=True))
    for new, old in pairs:
        if jnp.shape(new) != jnp.shape(old) or jnp.result_type(new) != jnp.result_type(old):
            raise TypeError(
                "adjust must keep the shapes and dtypes of the params: "
                f"{checks.kind(jnp.asarray(old))} became {checks.kind(jnp.asarray(new))}"
            )
    return all(np.array_equal(new, old) for new, old in pairs)
