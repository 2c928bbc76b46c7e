"""What fits on which device."""

from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import pytest

from recurrax.unrolling.kernel import plan as plans

H200 = plans.Device((9, 0), 227 * 1024)
SMALL = plans.Device((8, 6), 99 * 1024)


@pytest.mark.parametrize(
    ("gates", "dtype", "hopper", "small"),
    [  # 4 gates of 128 by 128 numbers of 2 bytes are 128 KiB; accurate float32 takes 8 bytes each
        (4, "bfloat16", 128, 64),
        (4, "float16", 128, 64),
        (4, "float32", 64, 32),
        (3, "bfloat16", 128, 64),
        (1, "bfloat16", 256, 128),
        (1, "float32", 128, 64),
    ],
)
def test_the_largest_size_follows_from_shared_memory(gates, dtype, hopper, small):
    for device, largest in ((H200, hopper), (SMALL, small)):
        assert plans.largest(device, gates, dtype) == largest
        for h, fits in ((largest, True), (2 * largest, False)):
            needed = plans.shared_memory(plans.plan(gates, h, dtype), gates, dtype)
            assert (needed <= device.shared_memory) == fits


def test_columns_are_a_power_of_two():
    columns = [plans.plan(1, h, "float32").columns for h in (1, 16, 17, 100, 128)]
    assert columns == [16, 16, 32, 128, 128]


def test_tf32_on_request():
    assert plans.plan(4, 64, "float32").precision == plans.ACCURATE
    with jax.default_matmul_precision("tensorfloat32"):
        assert plans.plan(4, 64, "float32").precision == plans.TF32
        assert plans.largest(SMALL, 4, jnp.float32) == 64  # held once, not twice
    with jax.default_matmul_precision("highest"):
        assert plans.plan(4, 64, "float32").precision == plans.ACCURATE


def fake(**given):
    return lambda: [types.SimpleNamespace(**{"platform": "gpu", **given})]


def test_the_device_is_asked(monkeypatch):
    assert plans.attached() is None  # a CPU
    monkeypatch.setattr(
        jax, "devices", fake(compute_capability="9.0", shared_memory_per_block_optin=232448)
    )
    assert plans.attached() == plans.Device((9, 0), 232448)


@pytest.mark.parametrize(
    ("capability", "kilobytes"),
    [("8.0", 163), ("8.6", 99), ("9.0", 227), ("8.1", 163), ("7.5", 99), ("99.0", 99)],
)
def test_where_it_does_not_say_its_capability_does(monkeypatch, capability, kilobytes):
    monkeypatch.setattr(jax, "devices", fake(compute_capability=capability))
    assert plans.attached().shared_memory == 1024 * kilobytes


def test_another_maker_is_no_device(monkeypatch):
    monkeypatch.setattr(jax, "devices", fake(compute_capability="gfx90a"))
    assert plans.attached() is None
