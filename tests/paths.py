"""The execution paths for `parametrize`: what needs the compiled kernels is skipped, with the reason, without them."""

import pytest
import torch

from fallow.linear.kernels.gpu import available
from fallow.linear.kernels.library import missing
from fallow.linear.paths import GPU_PATHS, PATHS

needs_kernels = pytest.mark.skipif(bool(missing()), reason=f"compiled kernels: {missing()}")
"""For tests of the kernels themselves."""

needs_triton = pytest.mark.skipif(bool(available.missing()), reason=f"GPU kernels: {available.missing()}")
"""For tests of the kernels in Triton, which are interpreted without a GPU: slowly."""


def _needs(name: str) -> pytest.MarkDecorator | tuple[()]:
    return needs_triton if name in GPU_PATHS else needs_kernels if name == "sparse" else ()


every_path = pytest.mark.parametrize("path", [pytest.param(name, marks=_needs(name)) for name in PATHS])
"""Every path, as the argument `path`."""

paths = pytest.mark.parametrize(
    "path",
    [pytest.param(name, marks=_needs(name)) for name in PATHS if name not in GPU_PATHS or torch.cuda.is_available()],
)
"""Every path that computes at speed here: without a GPU those for one are left out."""
