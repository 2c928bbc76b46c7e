"""The user's own functions, tried on shapes before anything is compiled: mistakes get names."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.tasks.batch import Batch
from recurrax.tasks.task import Task
from recurrax.train.networks.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.train.loop import Carry, Program
    from recurrax.train.networks.objective import Objective
    from recurrax.train.source import BatchSource

# What a row of the history holds besides the metrics.
_RESERVED = (
    *("step", "loss", "penalty", "gradient_norm", "gradient_norm_max", "clip_fraction"),
    *("steps_per_second", "learning_rate", "flow", "truncate"),
)


def loss_and_metrics(task: Any, loss: Any, metrics: Any, own: Any = None) -> tuple[Any, Any]:
    """Return the loss and the metrics of outputs: the task's, or the user's for their batches.

    None and None for a model that has a loss of its `own`.
    """
    whose = f"the task {task.name!r}" if isinstance(task, Task) else ""
    whose = "the model" if own is not None else whose
    if whose and (loss is not None or metrics is not None):
        remedy = ""
        if own is None:
            remedy = ", or change the task with dataclasses.replace(task, loss=...)"
        raise ValueError(f"loss and metrics come with {whose}: leave them out{remedy}")
    if isinstance(task, Task):
        return (task.loss, task.metrics) if own is None else (None, None)
    if not isinstance(task, Iterable) or isinstance(task, (Batch, str)):
        remedy = ": put it in a list" * isinstance(task, Batch)
        remedy += ": rx.tasks.get makes one of its name" * isinstance(task, str)
        raise TypeError(
            "task must be a rx.tasks.Task, such as rx.tasks.adding(100), or an iterable of "
            f"rx.tasks.Batch, got {type(task).__name__}{remedy}"
        )
    if loss is None and own is None:
        raise ValueError(
            "loss must be given for batches of your own: loss(outputs, batch), such as "
            "rx.tasks.cross_entropy"
        )
    return loss, metrics


def check_functions(program: Program, carry: Carry, source: BatchSource) -> None:
    """Raise if the user's functions do not take, or return, what a training step needs."""
    objective = program.objective
    network: Any = objective.network
    batch = jax.eval_shape(program.draw, carry.key, carry.step, 0, source.feed.example)
    if objective.criterion is None:
        found = jax.eval_shape(network.loss, carry.params, batch, carry.key)
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(
                "loss must return (scalar, metrics), the metrics a dict of scalars, which may be "
                f"empty; got {checks.show(found)}"
            )
        _check_scalar("loss", found[0])
        _check_metrics(found[1])
    else:
        outputs = jax.eval_shape(network.outputs, carry.params, batch, carry.key)
        if source.task is not None:
            _check_outputs(outputs, batch, source.task)
        check_takes("loss", objective.criterion, ("outputs", "batch"))
        _check_scalar("loss", jax.eval_shape(objective.criterion, outputs, batch))
        if objective.metrics is not None:
            check_takes("metrics", objective.metrics, ("outputs", "batch"))
            _check_metrics(jax.eval_shape(objective.metrics, outputs, batch))
    if objective.regularizer is not None:
        check_takes("regularizer", objective.regularizer, ("cell", "params", "state", "xs"))
        _check_scalar("regularizer", jax.eval_shape(_penalty(objective), carry.params, batch.xs))
    if source.test is not None and not isinstance(network, Network):
        try:
            jax.eval_shape(objective.loss, carry.params, batch)
        except Exception as error:
            error.add_note("This is about key=None, which a model is given where it is evaluated.")
            raise


def _penalty(objective: Objective) -> Callable[[Any, Any], Any]:
    """Return what the regularizer makes of params and inputs."""
    network: Any = objective.network
    function: Any = objective.regularizer

    def penalty(params: Any, xs: Any) -> Any:
        state = network.cell.initial_state(params.cell, xs.shape[1:-1])
        return function(network.cell, params.cell, state, network.inputs(params, xs))

    return penalty


def check_takes(
    name: str, function: Any, arguments: tuple[str, ...], named: tuple[str, ...] = ()
) -> None:
    """Raise unless it is a function of so many arguments, and of some that are given by name."""
    takes = ", ".join(arguments + tuple(f"{own}=" for own in named))
    expected = f"{name} must be a function {name}({takes})"
    if not callable(function):
        raise TypeError(f"{expected}, got {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return
    try:
        signature.bind(*arguments, **dict.fromkeys(named))
    except TypeError as error:
        raise TypeError(f"{expected}; the one given takes {signature}: {error}") from None


def _check_outputs(outputs: Any, batch: Batch, task: Task) -> None:
    """Raise unless a model of one's own answers what the task asks."""
    expected = (*batch.weights.shape, task.output_size)
    shape, dtype = getattr(outputs, "shape", None), getattr(outputs, "dtype", bool)
    if shape != expected or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"apply must return floating-point outputs [T, B, O] = {list(expected)} for the task "
            f"{task.name!r}, got {checks.show(outputs)}"
        )


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
