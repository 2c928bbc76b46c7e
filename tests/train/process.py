"""`fit` in a process of its own.

python -m train.process NAME [JSON OF ARGUMENTS]
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    import recurrax as rx

# A checkpoint takes most of the time.
LONG = {"steps": 3000, "checkpoint_every": 10, "report_every": 20}


def start(name: str, flags: str = "", **given: Any) -> subprocess.Popen[str]:
    """Begin one of the functions below."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    environment["XLA_FLAGS"] = f"{environment['XLA_FLAGS']} {flags}"
    command = [sys.executable, "-m", "train.process", name, json.dumps(given)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def answers(*processes: subprocess.Popen[str]) -> list[Any]:
    """What each printed last."""
    try:
        told = [process.communicate(timeout=900) for process in processes]
    finally:
        for process in processes:
            process.kill()  # one that waits for another that failed
    assert not any(process.returncode for process in processes), told
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


def long(directory: str) -> None:
    """A run to be killed."""
    from train.small import fit

    found = fit(directory=directory, resume=True, **LONG)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((found.params, found.opt_state))]
    np.savez(Path(directory) / "found.npz", *leaves)
    print(json.dumps(found.step))


def spread(steps: int = 10, data: bool = False, **options: Any) -> None:
    """Losses, and how the outputs lie on the devices; of the data task too, if asked."""
    from train.small import DATA, TASK, dropout, fit, going_on  # makes a key: not before they join

    seen: list[Any] = []

    def metrics(outputs: Any, batch: rx.tasks.Batch) -> dict[str, Any]:
        jax.debug.inspect_array_sharding(outputs, callback=seen.append)
        return TASK.metrics(outputs, batch)

    found = fit(steps, task=dataclasses.replace(TASK, metrics=metrics), **options)
    shape = (4, 8, 1)
    shares = {sharding.shard_shape(shape) for sharding in seen}
    devices = found.params.w_out.sharding.device_set
    rows = found.history["loss"].tolist()
    report = {"loss": rows, "shares": sorted(shares), "devices": len(devices)}
    if data:
        more = fit(10, task=DATA, batch_size=8, flow_every=4).history
        report |= {"test_loss": more["test_loss"][-1], "rate": more["flow"].rate.tolist()}
        report |= {"dropout": fit(4, cell=dropout()).history["loss"].tolist()}
        report["goes_on"] = fit(6, **going_on()).history["loss"].tolist()
    print(json.dumps(report))


def joined(port: int, number: int, **options: Any) -> None:
    """One of two processes."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
    spread(**options)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
