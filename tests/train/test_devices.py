"""Several devices, and several processes, find what one does."""

from __future__ import annotations

import socket

import jax
import numpy as np
import pytest
from close import says
from train.process import answers, start
from train.small import DATA, dropout, fit, going_on

from recurrax.train import source


def test_eight_devices():
    (found,) = answers(start("spread", "--xla_force_host_platform_device_count=8", data=True))
    assert found["devices"] == 8
    assert found["shares"] == [[4, 1, 1]]
    np.testing.assert_allclose(found["loss"], fit(10).history["loss"], rtol=1e-5)
    data = fit(10, task=DATA, batch_size=8, flow_every=4).history
    np.testing.assert_allclose(found["test_loss"], data["test_loss"][-1], rtol=1e-5)
    np.testing.assert_allclose(found["rate"], data["flow"].rate, rtol=1e-3)
    alone = fit(4, cell=dropout()).history["loss"]
    np.testing.assert_allclose(found["dropout"], alone, rtol=1e-5)
    np.testing.assert_allclose(found["goes_on"], fit(6, **going_on()).history["loss"], rtol=1e-5)


def joined(**options):
    """What two processes found, each told of the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return answers(*(start("joined", port=port, number=n, **options) for n in (0, 1)))


@pytest.mark.slow
def test_two_processes_stopped_and_resumed(tmp_path):
    options = {"directory": str(tmp_path), "checkpoint_every": 4}
    joined(steps=5, **options)
    for found in joined(resume=True, **options):
        assert found["devices"] == 2
        assert found["shares"] == [[4, 4, 1]]
        alone = [*fit(5).history["loss"], *fit(10).history["loss"]]
        np.testing.assert_allclose(found["loss"][0], alone[0], rtol=1e-5)
        np.testing.assert_allclose(found["loss"][-1], alone[-1], rtol=1e-5)
    # What two wrote, one reads.
    again = fit(10, directory=tmp_path, resume=True)
    assert again.history["step"].tolist() == [4, 5, 8, 10]
    np.testing.assert_array_equal(again.history["loss"], found["loss"])


def test_a_batch_that_does_not_divide_stays_on_one_device(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [object()] * 3)
    assert source.placement(8).mesh is None
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    text = "batch_size must be a multiple of the 3 devices of all 3 processes, got 8"
    with says(ValueError, text):
        source.placement(8)
