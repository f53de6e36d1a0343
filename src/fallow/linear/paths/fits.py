"""Which layers a path cannot compute, and why."""

from fallow.errors import UserError
from fallow.linear.kernels.gpu.block_structure import SIZES
from fallow.linear.kernels.gpu.two_four import MULTIPLE
from fallow.linear.paths.structures import block_size
from fallow.linear.terms import Sparse, Terms
from fallow.supports import Transposable

SPECIAL = ("block", "semi_structured")
"""Paths for one kind of support each."""


def require_fit(path: str, name: str, terms: Terms, shape: tuple[int, int]) -> None:
    """Refuse a path for a layer that it cannot compute.

    Args:
        path: by name.
        name: of the layer.
        terms: of the layer.
        shape: (d_out, d_in).

    Raises:
        UserError: what the path needs, and what to write instead.
    """
    if reason := unfit(path, terms, shape):
        raise UserError(f"path {path} cannot compute {name}: {reason}. Or write path: materialise")


def unfit(path: str, terms: Terms, shape: tuple[int, int]) -> str:
    """Why a path cannot compute a layer, and what it needs instead; empty where it can.

    Args:
        path: by name.
        terms: of the layer.
        shape: (d_out, d_in).

    >>> from fallow.linear import Base
    >>> unfit("block", Terms(base=Base()), (64, 64))
    'it needs a support of blocks: block:16, block:32, block:64 or block:128'
    """
    if path == "block" and block_size(terms) not in SIZES:
        return "it needs a support of blocks: block:16, block:32, block:64 or block:128"
    if path == "semi_structured":
        if not (isinstance(terms.sparse, Sparse) and isinstance(terms.sparse.kind, Transposable)):
            return "it needs a support that is 2:4 in rows and in columns: transposable, at a sparsity of 0.5"
        if shape[0] % MULTIPLE or shape[1] % MULTIPLE:
            return f"it needs multiples of {MULTIPLE} rows and columns, and this matrix has {shape[0]} and {shape[1]}"
    return ""
