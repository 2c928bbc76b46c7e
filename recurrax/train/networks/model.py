"""A network of one's own: functions that `fit` trains as they are."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import Cell
from recurrax.cells.stack import BothWays
from recurrax.flow.parts import Part, parts
from recurrax.train.user_functions import check_takes

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.tasks.batch import Batch


@dataclasses.dataclass(frozen=True)
class Model:
    """Functions of one's own, compared by value as these are. Made by `rx.train.model`.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> def init(key):
      ...     return {"slope": jnp.ones(())}
      >>> def apply(params, xs, mask):
      ...     return params["slope"] * xs
      >>> rx.train.model(init, apply) == rx.train.model(init, apply)
      True
    """

    init: Callable[[chex.PRNGKey], Any]
    apply: Callable[..., Any] | None = None
    loss: Callable[[Any, Batch, Any], tuple[Any, dict[str, Any]]] | None = None
    recurrent: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = ()
    input_size: ClassVar[None] = None  # is not known
    output_size: ClassVar[None] = None

    def outputs(self, params: Any, batch: Batch, key: chex.PRNGKey | None) -> Any:
        """What `apply` makes of a batch; it has the key if it takes one."""
        function: Any = self.apply
        own = {"key": key} if takes_key(function) else {}
        return function(params, batch.xs, batch.mask, **own)

    def parts(self, params: Any, batch: Batch) -> dict[str, Part]:
        """Its recurrent parts on a batch, by name.

        The batch's mask is theirs too, where they read the same steps of the same rows.
        """
        if not self.recurrent:
            raise ValueError(
                "flow_every needs to be told what is recurrent in a model of your own: "
                "rx.train.model(init, apply, parts={name: lambda params, xs: (cell, cell_params, "
                "cell_xs)})"
            )
        found: dict[str, Part] = {}
        for name, function in self.recurrent:
            given = function(params, batch.xs)
            three = isinstance(given, tuple) and len(given) == 3
            if not three or not isinstance(given[0], (Cell, BothWays)):
                raise TypeError(
                    f"parts[{name!r}] must return (cell, cell_params, cell_xs) with a rx.Cell, got "
                    f"{checks.show(given)}"
                )
            cell, own, xs = given
            mask = batch.mask
            if mask is not None and any(x.shape[:2] != mask.shape for x in jax.tree.leaves(xs)):
                mask = None
            if isinstance(cell, Cell):
                found[name] = Part(cell, own, None, xs, mask, None)
            else:
                both = parts(cell, own, None, xs, mask=mask)
                found |= {f"{name}/{layer}": part for layer, part in both.items()}
        return found

    def check_params(self, params: Any) -> None:
        """Raise unless there is a derivative by every leaf."""
        checks.check_arrays("params", params)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                raise TypeError(
                    f"{checks.leaf_name('params', path)} must be floating-point, since it is "
                    f"trained, got {checks.kind(leaf)}: leave out of the params what is not, such "
                    "as sizes, and let apply or loss know it otherwise"
                )


def takes_key(function: Any) -> bool:
    """Whether a function has an argument called key."""
    try:
        return "key" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins have none
        return False


def model(
    init: Callable[[chex.PRNGKey], Any],
    apply: Callable[..., Any] | None = None,
    *,
    loss: Callable[[Any, Batch, Any], tuple[Any, dict[str, Any]]] | None = None,
    parts: Mapping[str, Callable[[Any, Any], Any]] | None = None,
) -> Model:
    """A network of one's own for `rx.train.fit`: any functions that JAX can trace.

    They are traced once, and know nothing of the step: what changes is in the params, every leaf
    of which is trained.

    Args:
      init: `init(key) -> params`, any pytree of floating-point arrays.
      apply: `apply(params, xs, mask) -> outputs`, judged by the loss of the task. xs is `[T, B, I]`
        as a task draws it, or of a batch of your own, also integer symbols `[T, B]`; mask is the
        batch's, bool `[T, B]`, or None. For a task outputs are `[T, B, O]`; for batches of your
        own, what your loss takes. If it has an argument `key`, for dropout say, it is given one
        that is new at each training step, and None where the model is evaluated.
      loss: instead of apply, `loss(params, batch, key) -> (scalar, metrics)` with metrics by name.
        The key is as above. A task is then solved by its own metric, if it is among these.
      parts: what is recurrent, by name, for `flow_every`: `part(params, xs) -> (cell, cell_params,
        cell_xs)` of a `Cell`, or of layers in both directions.

    Raises:
      ValueError: if apply and loss are both given, or neither is.
      TypeError: if a function does not take these arguments, cannot be compared by value (it has no
        hash), or parts are not by name.

    Example:
      >>> import jax, jax.numpy as jnp, optax, recurrax as rx
      >>> cell = rx.cells.gru(2, 16)
      >>> def init(key):
      ...     return {"gru": cell.init(key), "out": jnp.zeros((16, 1))}
      >>> def apply(params, xs, mask, key=None):
      ...     state = cell.initial_state(params["gru"], xs.shape[1:-1])
      ...     _, ys = rx.unroll(cell, params["gru"], state, xs, mask=mask)
      ...     if key is not None:  # dropout, while training
      ...         ys = ys * jax.random.bernoulli(key, 0.9, ys.shape) / 0.9
      ...     return ys @ params["out"]
      >>> net = rx.train.model(init, apply, parts={"gru": lambda p, xs: (cell, p["gru"], xs)})
      >>> task, adam, key = rx.tasks.adding(4), optax.adam(0.01), jax.random.key(0)
      >>> found = rx.train.fit(net, task, adam, key=key, steps=20, flow_every=10)
      >>> list(found.history["flow"]), found.history["flow"]["gru"].log_norm.shape
      (['gru'], (2,))
    """
    check_takes("init", init, ("key",))
    if (apply is None) == (loss is None):
        both = "neither" if apply is None else "both"
        raise ValueError(f"model takes either apply or loss, got {both}")
    if apply is not None:
        check_takes("apply", apply, ("params", "xs", "mask"), ("key",) if takes_key(apply) else ())
    if loss is not None:
        check_takes("loss", loss, ("params", "batch", "key"))
    named = {} if parts is None else parts
    if not isinstance(named, Mapping) or not all(isinstance(n, str) and n for n in named):
        raise TypeError(f"parts must be functions by name, got {checks.show(parts)}")
    for name, part in named.items():
        check_takes(f"parts[{name!r}]", part, ("params", "xs"))
    made = Model(init, apply, loss, tuple(named.items()))
    try:
        hash(made)
    except TypeError:
        raise TypeError(
            "the functions of a model must be hashable, since a program is compiled once for "
            "equal ones, and one of these is not: wrap it in a plain function (def or lambda)"
        ) from None
    return made
