"""Execution paths: several ways to compute the same layer. All agree to rounding with one float64 reference."""

from collections.abc import Callable

from torch import Tensor

from fallow.errors import unknown
from fallow.linear.operands import Operands
from fallow.linear.paths.factored import factored
from fallow.linear.paths.materialise import materialise

Path = Callable[[Tensor, Operands], Tensor]
"""Takes x (..., d_in) and the operands, gives x W^T + bias (..., d_out)."""

PATHS: dict[str, Path] = {"materialise": materialise, "factored": factored}
"""The known paths by name."""


def path_of(name: str) -> Path:
    """The path of this name; UserError with the nearest name when there is none."""
    if name not in PATHS:
        raise unknown("path", name, PATHS)
    return PATHS[name]
