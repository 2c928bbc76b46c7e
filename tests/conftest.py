"""What every test may ask for."""

from __future__ import annotations

import hypothesis
import jax
import pytest

# The same examples on every run; compilation makes the first one slow, so no deadline.
hypothesis.settings.register_profile(
    "recurrax", deadline=None, derandomize=True, database=None, max_examples=15
)
hypothesis.settings.load_profile("recurrax")


@pytest.fixture
def key() -> jax.Array:
    """The same key in every test."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """float64 for the length of one test; the configuration of the others stays as it is."""
    with jax.enable_x64(True):
        yield
