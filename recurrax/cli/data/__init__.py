"""Real data from a file, as sequences `[T, B, I]`."""

from recurrax.cli.data.asked import Reading
from recurrax.cli.data.read import read
from recurrax.cli.data.sequences import LONGEST, Sequences

__all__ = ["LONGEST", "Reading", "Sequences", "read"]
