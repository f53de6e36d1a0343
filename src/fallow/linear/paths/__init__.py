"""Execution paths: several ways to compute the same layer. All agree to rounding with one float64 reference."""

from collections.abc import Callable

from torch import Tensor

from fallow.errors import UserError, unknown
from fallow.linear.kernels.gpu import available, two_four
from fallow.linear.kernels.library import library, missing
from fallow.linear.operands import Operands
from fallow.linear.paths.block import block
from fallow.linear.paths.factored import factored
from fallow.linear.paths.fused import fused
from fallow.linear.paths.materialise import materialise
from fallow.linear.paths.semi_structured import semi_structured
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
    "block": block,
    "semi_structured": semi_structured,
}
"""The known paths by name."""

GPU_PATHS = ("fused", "block", "semi_structured")
"""Paths of a GPU's own: by kernels in Triton, the last one by torch's."""

DENSE_PATHS = frozenset({"materialise", "fused"})
"""Paths that multiply by all of W, zeros too."""


def path_of(name: str, *, planned: bool = False) -> Path:
    """The path of this name.

    Args:
        name: of the path.
        planned: it will compute on another device than those of this machine, so that a GPU's path need not act here.

    Raises:
        UserError: there is none of this name (says the nearest), or it needs kernels that are not there.
    """
    if name not in PATHS:
        raise unknown("path", name, PATHS)
    if not (planned and name in GPU_PATHS) and (reason := why_not(name)):
        raise UserError(f"path {name} cannot be used here: {reason}. Or write path: materialise")
    return PATHS[name]


def why_not(name: str) -> str:
    """Why a path cannot be used on this machine, for any layer; empty where it can.

    >>> why_not("materialise")
    ''
    """
    if name == "sparse" and library() is None:
        return f"it needs the compiled kernels, and there are none: {missing()}"
    if name in GPU_PATHS and (reason := two_four.missing() if name == "semi_structured" else available.missing()):
        return f"it is for GPUs: {reason}"
    return ""
