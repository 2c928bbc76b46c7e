"""What every test may ask for."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
from pathlib import Path

# What is tested is numbers to the rounding of a CPU; a GPU's products have other bounds.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Most of a test's time is compilation. Unoptimised code compiles twice as fast, and the older code
# generator of jax 0.10 twice as fast again; later versions have none, and ignore the option. What
# users run is neither: CI runs the most numerical tests once more with XLA_FLAGS empty. A program
# in one part, not in one part for each core: the other cores have the other workers' programs.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
)

# Which lines of Python an operation comes from is for profilers; to write it down takes time.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

# Beside another worker LAPACK's threads would wait for each other, and that by turning in circles.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import jax
import pytest

# Tracing makes many objects, and what was compiled stays: Python need not look through all of that
# again and again for what it could free.
gc.set_threshold(50_000, 20, 20)

# On a machine's first run matplotlib tells on stderr that it lists the fonts, or finds no home.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# The same examples on every run; compilation makes the first one slow, and so may the machine be.
hypothesis.settings.register_profile(
    "recurrax",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=8,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("recurrax")


_TESTS = itertools.count(1)


@pytest.fixture(autouse=True)
def room_for_programs():
    """Drop compiled programs before there are too many.

    Each holds some pages of its own, and Linux grants a process 65,530 such maps; beyond them it
    crashes.
    """
    yield
    maps = Path("/proc/self/maps")
    if next(_TESTS) % 50 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """80 columns without colour, whatever terminal the suite is run in."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ctrl_c():
    """Python's own handler of Ctrl-C, which a suite that was begun in the background lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def key() -> jax.Array:
    """The same key in every test."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """float64 for the length of one test; the configuration of the others stays as it is."""
    with jax.enable_x64(True):
        yield
