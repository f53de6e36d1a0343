"""Execution paths: several ways to compute the same layer. All agree to rounding with one float64 reference."""

from collections.abc import Callable

from torch import Tensor

from fallow.errors import UserError, unknown
from fallow.linear.kernels.gpu import available
from fallow.linear.kernels.library import library, missing
from fallow.linear.operands import Operands
from fallow.linear.paths.factored import factored
from fallow.linear.paths.fused import fused
from fallow.linear.paths.materialise import materialise
from fallow.linear.paths.sparse import sparse
from fallow.linear.paths.update import update

Path = Callable[[Tensor, Operands], Tensor]
"""Takes x (..., d_in) and the operands, gives x W^T + bias (..., d_out)."""

PATHS: dict[str, Path] = {
    "materialise": materialise,
    "factored": factored,
    "sparse": sparse,
    "update": update,
    "fused": fused,
}
"""The known paths by name."""

GPU_PATHS = frozenset({"fused"})
"""Paths of a GPU's own, by kernels in Triton."""

DENSE_PATHS = frozenset({"materialise", "fused"})
"""Paths that multiply by all of W, zeros too."""

KERNEL_PATHS = frozenset({"factored", "sparse"})
"""Paths that use the compiled kernels, and so want the structure of a support. Only `sparse` cannot do without them."""

LEAN_PATHS = frozenset({"factored"})
"""Those of them that are for few entries: the kernels derive the structure in each pass, and nothing of it is kept."""


def path_of(name: str) -> Path:
    """The path of this name.

    Raises:
        UserError: there is none of this name (says the nearest), or it needs kernels that are not there.
    """
    if name not in PATHS:
        raise unknown("path", name, PATHS)
    if name == "sparse" and library() is None:
        raise UserError(
            f"path sparse needs the compiled kernels, and there are none here: {missing()}. Or write path: materialise"
        )
    if name in GPU_PATHS and available.missing():
        raise UserError(
            f"path {name} is for GPUs, and cannot be used here: {available.missing()}. Write path: materialise"
        )
    return PATHS[name]
