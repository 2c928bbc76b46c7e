"""Problems of known difficulty. So far: real data read one pixel at a time."""

from recurrax.tasks.digits import DigitSequences, digit_sequences

__all__ = ["DigitSequences", "digit_sequences"]
