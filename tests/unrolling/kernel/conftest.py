"""The engines that these tests know besides: the kernel run by Pallas's interpreter."""

from __future__ import annotations

from functools import partial

import pytest

from recurrax.unrolling.kernel import choose as engine
from recurrax.unrolling.unroll import ENGINES, kernel_engine


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """`engine="interpreted"`: the kernel, by Pallas's interpreter on the CPU."""
    monkeypatch.setitem(ENGINES, "interpreted", partial(kernel_engine, interpret=True))


@pytest.fixture
def measured(monkeypatch):
    """As if the kernel had been measured everywhere; a fresh slate of trials and warnings."""
    everywhere = engine.Region(("float32", "bfloat16", "float16"), (1, 4096), (1, 4096))
    monkeypatch.setattr(engine, "MEASURED", (everywhere,))
    engine._warn_once.cache_clear()
    engine._trial.cache_clear()
    yield engine
    engine._warn_once.cache_clear()
    engine._trial.cache_clear()
