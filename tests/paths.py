"""The execution paths for `parametrize`: what needs the compiled kernels is skipped, with the reason, without them."""

import pytest

from fallow.linear.kernels.library import missing
from fallow.linear.paths import PATHS

needs_kernels = pytest.mark.skipif(bool(missing()), reason=f"compiled kernels: {missing()}")
"""For tests of the kernels themselves."""

paths = pytest.mark.parametrize(
    "path", [pytest.param(name, marks=needs_kernels if name == "sparse" else ()) for name in PATHS]
)
"""Every path, as the argument `path`."""
