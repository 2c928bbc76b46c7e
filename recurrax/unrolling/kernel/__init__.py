"""The GPU engine for gated cells: one launch for a whole sequence.

`engine.py` decides, `run.py` is what is called, `forward.py` and `backward.py` are the kernels.
Pallas is imported only where a kernel is lowered or interpreted.
"""

from recurrax.unrolling.kernel.choose import auto_engine, kernel_engine

__all__ = ["auto_engine", "kernel_engine"]
