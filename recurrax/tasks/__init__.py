"""Problems of known difficulty, synthetic and real, in one form.

Endless tasks are drawn from a key, tasks made of data from their split; `Task.draw` does both.
"""

from recurrax.tasks.adding import adding, multiplication
from recurrax.tasks.batch import Batch, Split, check_batch
from recurrax.tasks.by_name import NAMES as NAMES
from recurrax.tasks.by_name import get
from recurrax.tasks.copying import copying
from recurrax.tasks.counting import counting
from recurrax.tasks.digits import DigitSequences, digit_sequences, digits
from recurrax.tasks.losses import accuracy, cross_entropy, squared_error
from recurrax.tasks.task import Task
from recurrax.tasks.temporal_order import temporal_order
from recurrax.tasks.text import text

# Of NAMES, the names that `get` knows, no docstring can be asked, so it is not listed.
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
