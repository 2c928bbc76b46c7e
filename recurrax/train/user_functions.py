"""The user's own functions, tried on shapes before anything is compiled: mistakes get names."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.train.loop import Carry, Program

# What a row of the history holds besides the metrics.
_RESERVED = (
    *("step", "loss", "penalty", "gradient_norm", "gradient_norm_max", "clip_fraction"),
    *("steps_per_second", "flow"),
)


def loss_and_metrics(task: Any, loss: Any, metrics: Any) -> tuple[Any, Any]:
    """Return the task's loss and metrics, or the user's for batches of their own."""
    if isinstance(task, Task):
        if loss is not None or metrics is not None:
            raise ValueError(
                f"loss and metrics come with the task {task.name!r}: leave them out, or change the "
                "task with dataclasses.replace(task, loss=...)"
            )
        return task.loss, task.metrics
    if not isinstance(task, Iterable):
        raise TypeError(
            "task must be a rx.tasks.Task, such as rx.tasks.adding(100), or an iterable of "
            f"rx.tasks.Batch, got {type(task).__name__}"
        )
    if loss is None:
        raise ValueError(
            "loss must be given for batches of your own: loss(outputs, batch), such as "
            "rx.tasks.cross_entropy"
        )
    return loss, metrics


def check_functions(program: Program, carry: Carry, data: Any) -> None:
    """Raise if loss, metrics or regularizer do not take, or return, what a training step needs."""

    objective = program.objective
    network, loss, metrics = objective.network, objective.criterion, objective.metrics

    def draw(carry: Carry, data: Any) -> Any:
        batch = program.draw(carry.key, carry.step, 0, data)
        return batch, network.apply(carry.params, batch.xs)

    batch, outputs = jax.eval_shape(draw, carry, data)
    _check_takes("loss", loss, ("outputs", "batch"))
    _check_scalar("loss", jax.eval_shape(loss, outputs, batch))
    if metrics is not None:
        _check_takes("metrics", metrics, ("outputs", "batch"))
        _check_metrics(jax.eval_shape(metrics, outputs, batch))
    if objective.regularizer is not None:
        _check_takes("regularizer", objective.regularizer, ("cell", "params", "state", "xs"))
        cell, regularizer = network.cell, objective.regularizer

        def penalty(params: Any, xs: Any) -> Any:
            state = cell.initial_state(params.cell, xs.shape[1:-1])
            return regularizer(cell, params.cell, state, network.inputs(params, xs))

        _check_scalar("regularizer", jax.eval_shape(penalty, carry.params, batch.xs))


def _check_takes(name: str, function: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    expected = f"{name} must be a function {name}({', '.join(arguments)})"
    if not callable(function):
        raise TypeError(f"{expected}, got {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TypeError(f"{expected}; the one given takes {signature}: {error}") from None


def _check_scalar(name: str, found: Any) -> None:
    shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
    if shape != () or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name} must return a real floating-point scalar, got {checks.show(found)}. Take a "
            "mean or a sum over time and batch."
        )


def _check_metrics(found: Any) -> None:
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise TypeError(f"metrics must return a dict of scalars by name, got {checks.show(found)}")
    for name, value in found.items():
        if name in _RESERVED or name.startswith("test_"):
            raise ValueError(
                f"metrics may not be named {name!r}, which the history uses itself "
                f"({', '.join(_RESERVED)}, and names that begin with test_)"
            )
        if getattr(value, "shape", None) != ():
            raise TypeError(f"the metric {name!r} must be a scalar, got {checks.show(value)}")
