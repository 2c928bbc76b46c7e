"""The GPU kernel for gated cells: one launch for a whole sequence.

`choose.py` says whether a layer runs on it or why not, `device_passes.py` is what is then called,
`forward_kernel.py` and `backward_kernel.py` are the kernels. Pallas is imported only where a
kernel is lowered or interpreted.
"""
