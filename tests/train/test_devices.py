"""Several devices, and several processes, find what one does."""

from __future__ import annotations

import socket

import jax
import numpy as np
import pytest
from close import says
from train.process import answer, start
from train.small import DATA, fit

from recurrax.train import sharding


def test_eight_devices():
    found = answer(start("spread", "--xla_force_host_platform_device_count=8"))
    assert found["devices"] == 8
    assert found["shares"] == [[4, 1, 1]]
    np.testing.assert_allclose(found["loss"], fit(10).history["loss"], rtol=1e-5)


def test_two_processes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"directory": str(tmp_path), "checkpoint_every": 4}
    both = [start("joined", port=port, number=number, **options) for number in (0, 1)]
    for found in map(answer, both):
        assert found["devices"] == 2
        assert found["shares"] == [[4, 4, 1]]
        np.testing.assert_allclose(found["loss"], fit(10).history["loss"], rtol=1e-5)
    # What two wrote, one reads.
    again = fit(10, directory=tmp_path, resume=True)
    np.testing.assert_allclose(again.history["loss"], found["loss"], rtol=0)
    assert again.step == 10


def test_a_batch_that_does_not_divide_stays_on_one_device(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [object()] * 3)
    assert sharding.placement(8).mesh is None
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    text = "batch_size must be a multiple of the 3 devices of all 3 processes, got 8"
    with says(ValueError, text):
        sharding.placement(8)


@pytest.mark.parametrize("mesh", [False, True])
def test_data_on_a_mesh(mesh, monkeypatch):
    """A mesh of the one device there is: the same program, with its constraints."""
    if mesh:
        one = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
        monkeypatch.setattr("recurrax.train.fit.placement", lambda _: sharding.Placement(one))
    found = fit(4, task=DATA, batch_size=3, flow_every=2)
    np.testing.assert_allclose(found.history["test_mse"][-1], 0.34, atol=0.5)
