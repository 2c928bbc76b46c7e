"""Advice on a start: the cures that fit a cell, tried on data, measured, ranked and proven."""

from recurrax.advice.advise import advise
from recurrax.advice.outcome import Advice, Candidate, Option, Start

__all__ = ["Advice", "Candidate", "Option", "Start", "advise"]
