"""Compiler options for a GPU."""

from __future__ import annotations

import types

import jax
import pytest

from recurrax.unrolling import gpu_options


def test_a_cpu_has_none():
    assert gpu_options() == {}


@pytest.mark.parametrize(("capability", "some"), [("9.0", True), ("gfx942", False)])
def test_a_gpu_of_nvidia_has(monkeypatch, capability, some):
    device = types.SimpleNamespace(platform="gpu", compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda *_: [device])
    assert bool(gpu_options()) == some
    if some:
        assert "WHILE" in gpu_options()["xla_gpu_enable_command_buffer"].split(",")
