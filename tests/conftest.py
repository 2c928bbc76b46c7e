"""What every test may ask for."""

from __future__ import annotations

import os

# Most of a test's time is compilation. Unoptimised code compiles twice as fast, and the older code
# generator of jax 0.10 twice as fast again; later versions have none, and ignore the option. What
# users run is neither: CI runs the most numerical tests once more with XLA_FLAGS empty.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
)

# Beside another worker LAPACK's threads would wait for each other, and that by turning in circles.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import jax
import pytest

# The same examples on every run; compilation makes the first one slow, so no deadline.
hypothesis.settings.register_profile(
    "recurrax", deadline=None, derandomize=True, database=None, max_examples=8
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
