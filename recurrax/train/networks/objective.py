"""What training minimises: how params begin, the loss of a batch, and whose flow is watched."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax

from recurrax.train.networks.model import Model, model
from recurrax.train.networks.network import Network, network_of
from recurrax.train.truncation.truncated import run_batch
from recurrax.train.user_functions import loss_and_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.flow.parts import Part
    from recurrax.tasks.batch import Batch

    Regularizer = Callable[[Any, Any, Any, Any], Any]
    """`regularizer(cell, params, state, xs) -> scalar`, of the cell's params and initial state."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss of what a network makes of a batch, compared by value as the network is."""

    network: Network | Model
    criterion: Callable[[Any, Batch], Any] | None  # of outputs; None: the model has a loss itself
    metrics: Callable[[Any, Batch], dict[str, Any]] | None = None
    regularizer: Regularizer | None = None
    truncate: int | None = None  # steps of a chunk of truncated backpropagation

    def init(self, key: chex.PRNGKey) -> Any:
        """The params to begin with."""
        params = self.network.init(key)
        if isinstance(self.network, Model):
            self.network.check_params(params)
        return params

    def loss(
        self, params: Any, batch: Batch, key: chex.PRNGKey | None = None, state: Any = None
    ) -> tuple[Any, tuple[dict[str, Any], Any]]:
        """What is minimised, what was seen on the way by name, and the state that is handed on.

        Args:
          params: as `init` gives them.
          batch: a `Batch`.
          key: of this training step; None where nothing is trained.
          state: what the batch before left, None where nothing is carried.
        """
        net: Any = self.network
        if self.criterion is None:
            total, metrics = net.loss(params, batch, key)
            return total, ({"loss": total} | metrics, state)
        if isinstance(net, Network):
            last, outputs = run_batch(net, params, batch, state, self.truncate)
        else:
            last, outputs = None, net.outputs(params, batch, key)
        total = self.criterion(outputs, batch)
        seen = {"loss": total}
        if self.regularizer is not None:
            if batch.mask is not None:
                raise ValueError(
                    "regularizer takes (cell, params, state, xs) and so knows no mask, but the "
                    "batches have one, and padding would be penalised: leave the regularizer out, "
                    "or add it to the loss of a model of your own, rx.train.model(init, loss=...)"
                )
            cell, xs = net.cell, net.inputs(params, batch.xs)
            start = cell.initial_state(params.cell, xs.shape[1:-1])
            seen["penalty"] = self.regularizer(cell, params.cell, start, xs)
            total = total + seen["penalty"]
        if self.metrics is not None:  # which need have no derivative
            seen |= self.metrics(jax.lax.stop_gradient(outputs), batch)
        return total, (seen, None if state is None else last)

    def parts(self, params: Any, batch: Batch) -> dict[str, Part]:
        """Its recurrent parts by name, for `flow_every`; that of a network has the name ""."""
        return self.network.parts(params, batch)


def objective_of(cell: Any, task: Any, loss: Any, metrics: Any, regularizer: Any) -> Objective:
    """Return what `fit` minimises, of its arguments."""
    if type(cell) is tuple:
        if len(cell) != 2:
            raise TypeError(
                f"cell must be a pair (init, apply) if a tuple, got {len(cell)} entries"
            )
        cell = model(*cell)
    if not isinstance(cell, Model):
        criterion, metrics = loss_and_metrics(task, loss, metrics)
        return Objective(network_of(cell, task), criterion, metrics, regularizer)
    if regularizer is not None:
        raise ValueError(
            "regularizer is a function of a cell's params and state, which a model of your own "
            "does not tell: add it to the loss, rx.train.model(init, loss=...)"
        )
    return Objective(cell, *loss_and_metrics(task, loss, metrics, cell.loss))
