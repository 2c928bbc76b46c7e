"""Problems of known difficulty, synthetic and real, in one form.

Endless tasks are drawn from a key, tasks made of data from their split; `Task.draw` does both.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from recurrax.tasks.adding import adding, multiplication
from recurrax.tasks.batch import Batch, Split, check_batch
from recurrax.tasks.copying import copying
from recurrax.tasks.counting import counting
from recurrax.tasks.digits import DigitSequences, digit_sequences, digits
from recurrax.tasks.losses import accuracy, cross_entropy, squared_error
from recurrax.tasks.task import Task
from recurrax.tasks.temporal_order import temporal_order
from recurrax.tasks.text import text
from recurrax.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Batch",
    "DigitSequences",
    "Split",
    "Task",
    "accuracy",
    "adding",
    "check_batch",
    "copying",
    "counting",
    "cross_entropy",
    "digit_sequences",
    "digits",
    "get",
    "multiplication",
    "squared_error",
    "temporal_order",
    "text",
]

_BUILDERS: dict[str, Callable[..., Task]] = {
    builder.__name__: builder
    for builder in (adding, multiplication, copying, temporal_order, counting, digits, text)
}
NAMES = tuple(_BUILDERS)  # what `get` knows; no docstring can be asked of it, so it is not listed


def get(name: str, **options: Any) -> Task:
    """A task by its name.

    Args:
      name: one of `rx.tasks.NAMES`.
      **options: the arguments of the function of that name.

    Raises:
      ValueError: if there is no such task, with the nearest name.
      TypeError: if the task has no such option, or needs one that is missing.

    Example:
      >>> import recurrax as rx
      >>> rx.tasks.get("adding", T=50) == rx.tasks.adding(50)
      True
      >>> rx.tasks.get("ading")
      Traceback (most recent call last):
        ...
      ValueError: there is no task 'ading'; did you mean 'adding'? The tasks are adding, \
multiplication, copying, temporal_order, counting, digits, text
    """
    if name not in _BUILDERS:
        raise ValueError(
            f"there is no task {name!r}{nearest(name, NAMES) or '.'} The tasks are "
            f"{', '.join(NAMES)}"
        )
    parameters = inspect.signature(_BUILDERS[name]).parameters
    for option in options:
        if option not in parameters:
            raise TypeError(
                f"task {name!r} has no option {option!r}{nearest(option, parameters) or '.'} "
                f"Its options are {', '.join(parameters)}"
            )
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            raise TypeError(f"task {name!r} needs {option}: rx.tasks.get({name!r}, {option}=...)")
    return _BUILDERS[name](**options)
