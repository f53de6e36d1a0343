"""Whether the kernels for GPUs can act here."""

import functools
import hashlib
import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from fallow.linear.kernels.operators import FLOATS, transformed

_OLDEST = (8, 0)
"""Compute capability from which bfloat16 products exist."""


def interpreted() -> bool:
    """Whether Triton interprets its kernels, on the CPU and slowly: for tests of what they compute."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def missing() -> str:
    """Why there are no kernels for GPUs here; empty where there are."""
    return _missing(interpreted())


@functools.cache
def _missing(interpreted: bool) -> str:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install 'fallow[kernels]')"
    if interpreted:
        return ""
    if not torch.cuda.is_available():
        return "no CUDA device"
    if torch.version.hip is None and torch.cuda.get_device_capability() < _OLDEST:
        return f"{torch.cuda.get_device_name()} is older than compute capability {_OLDEST[0]}.{_OLDEST[1]}"
    return ""


def version() -> str:
    """Of Triton, and a checksum of the sources of the kernels: what a measurement of them is good for."""
    import triton

    state = hashlib.blake2b(digest_size=6)
    for file in sorted(Path(__file__).parent.glob("*.py")):
        state.update(file.read_bytes())
    return f"{triton.__version__} {state.hexdigest()}"


def take(x: Tensor) -> bool:
    """Whether the kernels can compute with x: on a GPU, fp32 or narrower, some tokens, and no torch.func around it."""
    device = "cpu" if interpreted() else "cuda"
    return x.device.type == device and x.dtype in FLOATS and x.numel() > 0 and not missing() and not transformed()


def on(x: Tensor) -> AbstractContextManager[object]:
    """Launches go to the device of x inside of it."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def precision() -> str:
    """How `tl.dot` multiplies fp32: with all bits, unless torch was told that TensorFloat-32 will do.

    Interpreted, it is `widen`: the interpreter cannot multiply bfloat16, and has to be given the same numbers in fp32.
    """
    if interpreted():
        return "widen"
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
