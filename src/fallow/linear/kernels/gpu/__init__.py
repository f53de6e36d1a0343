"""Kernels for GPUs, in Triton: building a weight from its terms, and products of blocks.

`available` says whether they can act here and why not, `operators` registers them with torch; what launches the kernels
is imported when one is first called, so that nobody needs Triton without a GPU. How the work is laid out, and why so:
docs/design/gpu.md.
"""
