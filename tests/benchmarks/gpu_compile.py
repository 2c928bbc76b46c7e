"""Compile the GPU kernels for an H200 where there is none, and compare with what the plan says.

    pip install "jax[cuda13]"        # its compiler works without a GPU; the versions must be jax's
    JAX_PLATFORMS=cpu python -m tests.benchmarks.gpu_compile

For every shipped cell, dtype and size it compiles both passes down to machine code, and prints the
shared memory that the compiler asks for beside what `plan.shared_memory` counts on. Exits with 1 if
any kernel does not compile or asks for more. It measures no time: nothing is run.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

# The properties of an H200 as XLA's `GpuTargetConfigProto` has them.
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000
  l2_cache_size: 62914560
  clock_rate_ghz: 1.98
  device_memory_size: 150000000000
  cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 13 minor: 0 }
device_description_str: "NVIDIA H200"
"""
CELLS = {"elman": (32, 100, 128, 256), "gru": (5, 64, 128), "lstm": (5, 64, 100, 128)}


def described_gpu() -> Any:
    """A device that can be compiled for, but not run on."""
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(
        "h200", platform="cuda", target_config=H200, topology="1x1x1"
    )
    return topology.devices[0]


def compiled(device: Any, cell: Any, dtype: str, dump: Path) -> list[int]:
    """Bytes of shared memory that each kernel of value and gradient asks for."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import recurrax as rx

    mesh = jax.sharding.Mesh(np.array([device]), ("x",))
    here = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def shaped(a: Any) -> Any:
        return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here)

    def loss(params: Any, xs: Any) -> Any:
        ys = rx.unroll(cell, params, None, xs, engine="kernel")[1]
        return ys.astype(jnp.float32).sum()

    params = jax.tree.map(shaped, jax.eval_shape(cell.init, jax.random.key(0)))
    xs = shaped(jax.ShapeDtypeStruct((64, 20, 8), dtype))
    for old in dump.glob("*"):
        old.unlink() if old.is_file() else None
    with jax.set_mesh(mesh):
        lowered = jax.jit(jax.value_and_grad(loss)).lower(params, xs)
        try:
            lowered.compile()
        except AttributeError as error:  # compiled; what cannot be had is something to run
            if "local_devices" not in str(error):
                raise
    text = "".join(p.read_text() for p in dump.glob("*thunk_sequence.txt"))
    lines = [line for line in text.splitlines() if "recurrax_" in line]
    return [int(n) for line in lines for n in re.findall(r"shared_memory: (\d+)", line)]


def main() -> int:
    """Print a line for each case; how many went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_dump_to={folder} --xla_dump_hlo_as_text"
        import jax

        import recurrax as rx
        from recurrax.unrolling.kernel import placement as plans

        try:
            device = described_gpu()
        except Exception as error:  # whatever a missing or other plugin does
            print(f'no compiler for CUDA ({error}); pip install "jax[cuda13]"')
            return 0
        known = plans.Device((9, 0), 232448)
        plans.attached = lambda: known  # so that the engine plans for it
        wrong = 0
        print(f"jax {jax.__version__}; bytes of shared memory, forward and backward")
        for name, sizes in CELLS.items():
            for dtype in plans.DTYPES:
                for hidden in sizes:
                    cell = getattr(rx.cells, name)(8, hidden, dtype=dtype)
                    size = cell.step.gates, len(cell.step.state._fields)
                    plan = plans.plan(*size, hidden, dtype, known)
                    if not plans.fits(plan, *size, dtype, known):
                        continue
                    counted = plans.shared_memory(plan, *size, dtype)
                    try:
                        asked: Any = compiled(device, cell, dtype, Path(folder))
                        bad = len(asked) != 2 or max(asked) > counted
                    except Exception as error:  # a compiler's errors have no kind of their own
                        asked, bad = str(error).splitlines()[0], True
                    wrong += bad
                    note = "  <- wrong" if bad else ""
                    case = f"{name:6}{dtype:9} H={hidden:<4} {plan.stages} stages"
                    print(f"{case}, counted {counted:6} asked {asked}{note}")
        return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
