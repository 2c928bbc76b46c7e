"""What fits on which device."""

from __future__ import annotations

import dataclasses
import types

import jax
import jax.numpy as jnp
import pytest

from recurrax.unrolling.kernel import placement as plans

pytestmark = pytest.mark.slow
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
        assert plans.largest(device, gates, 2, dtype) == largest
        for h, fits in ((largest, True), (2 * largest, False)):
            plan = plans.plan(gates, 2, h, dtype, device)
            assert plans.fits(plan, gates, 2, dtype, device) == fits


def test_it_reads_as_far_ahead_as_there_is_room():
    stages = [plans.plan(4, 2, h, "bfloat16", H200).stages for h in (16, 64, 128, 256)]
    assert stages == [3, 3, 2, 1]
    assert plans.plan(4, 2, 256, "bfloat16").stages == 3  # on a device that nobody knows


def test_shared_memory_is_counted():
    """Gates of 16 by 16 numbers, two tiles to exchange in float32, and six to read ahead."""
    plan = plans.Plan(rows=16, columns=16, warps=4, stages=1, precision=plans.ACCURATE)
    assert plans.shared_memory(plan, 4, 2, "bfloat16") == 4 * 256 * 2 + 2 * 256 * 4
    assert plans.shared_memory(plan, 4, 2, "float32") == 4 * 256 * 8 + 2 * 256 * 4
    ahead = dataclasses.replace(plan, stages=2)
    assert plans.shared_memory(ahead, 2, 1, "bfloat16") == (2 * 2 + 2 * 4 + 6 * 2) * 256


def test_columns_are_a_power_of_two():
    columns = [plans.plan(1, 1, h, "float32").columns for h in (1, 16, 17, 100, 128)]
    assert columns == [16, 16, 32, 128, 128]


def test_tf32_on_request():
    assert plans.plan(4, 2, 64, "float32").precision == plans.ACCURATE
    with jax.default_matmul_precision("tensorfloat32"):
        assert plans.plan(4, 2, 64, "float32").precision == plans.TF32
        assert plans.largest(SMALL, 4, 2, jnp.float32) == 64  # held once, not twice
    with jax.default_matmul_precision("highest"):
        assert plans.plan(4, 2, 64, "float32").precision == plans.ACCURATE


def fake(**given):
    return lambda *_: [types.SimpleNamespace(**{"platform": "gpu", **given})]


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


def test_a_default_device_counts_before_the_first():
    with jax.default_device(jax.devices("cpu")[0]):
        assert plans.attached() is None
