"""`fit` in a process of its own.

python -m train.process NAME [JSON OF ARGUMENTS]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from train.small import TASK, fit

import recurrax as rx

LONG = {"steps": 3000, "checkpoint_every": 10, "inner": 20}  # a checkpoint takes most of the time


def start(name: str, flags: str = "", **given: Any) -> subprocess.Popen[str]:
    """Begin one of the functions below."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    environment["XLA_FLAGS"] = f"{environment['XLA_FLAGS']} {flags}"
    command = [sys.executable, "-m", "train.process", name, json.dumps(given)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def answer(process: subprocess.Popen[str]) -> Any:
    """What it printed last."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def long(directory: str) -> None:
    """A run to be killed."""
    found = fit(directory=directory, resume=True, **LONG)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((found.params, found.opt_state))]
    np.savez(Path(directory) / "found.npz", *leaves)
    print(json.dumps(found.step))


def spread(**options: Any) -> None:
    """Losses, and how the outputs lie on the devices."""
    seen = []

    def metrics(outputs: Any, batch: rx.tasks.Batch) -> dict[str, Any]:
        jax.debug.inspect_array_sharding(outputs, callback=seen.append)
        return TASK.metrics(outputs, batch)

    import dataclasses

    found = fit(10, task=dataclasses.replace(TASK, metrics=metrics), **options)
    shape = (4, 8, 1)
    shares = {sharding.shard_shape(shape) for sharding in seen}
    devices = found.params.w_out.sharding.device_set
    rows = found.history["loss"].tolist()
    print(json.dumps({"loss": rows, "shares": sorted(shares), "devices": len(devices)}))


def joined(port: int, number: int, **options: Any) -> None:
    """One of two processes."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
    spread(**options)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
