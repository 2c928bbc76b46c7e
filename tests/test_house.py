"""The script that says how large the package is: its own parts."""

from __future__ import annotations

import jax
import pytest
from house import files_run, longest_chain

import recurrax as rx


def test_the_longest_chain():
    assert longest_chain({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == ["a", "b", "c"]


def test_a_circle_is_said():
    with pytest.raises(ValueError, match=r"in a circle: b -> c -> b"):
        longest_chain({"a": {"b"}, "b": {"c"}, "c": {"b"}})


def test_the_files_of_a_call():
    assert files_run(lambda: jax.numpy.ones(3)) == set()
    found = files_run(lambda: rx.length_mask(jax.numpy.ones(2, int), 3))
    assert found == {"unrolling/masks.py", "checks.py"}
