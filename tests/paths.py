"""The execution paths for `parametrize`: what cannot be used here is skipped, with the reason."""

import pytest
import torch

from fallow.linear.kernels.gpu import available
from fallow.linear.kernels.library import missing
from fallow.linear.paths import GPU_PATHS, PATHS, why_not
from fallow.linear.paths.fits import SPECIAL

needs_kernels = pytest.mark.skipif(bool(missing()), reason=f"compiled kernels: {missing()}")
"""For tests of the kernels themselves."""

needs_triton = pytest.mark.skipif(bool(available.missing()), reason=f"GPU kernels: {available.missing()}")
"""For tests of the kernels in Triton, which are interpreted without a GPU: slowly."""

ANY_SUPPORT = [name for name in PATHS if name not in SPECIAL]
"""Paths that take every layer."""


def _param(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.skipif(bool(why_not(name)), reason=f"path {name}: {why_not(name)}"))


every_path = pytest.mark.parametrize("path", [_param(name) for name in ANY_SUPPORT])
"""Each of them, as the argument `path`."""

paths = pytest.mark.parametrize(
    "path", [_param(name) for name in ANY_SUPPORT if name not in GPU_PATHS or torch.cuda.is_available()]
)
"""Each that computes at speed here: without a GPU those for one are left out."""
