"""What a path wants to know of a support beside its indices: derived where the path can act, and never saved."""

import torch
from torch import Tensor

from fallow.linear.kernels.gpu import available
from fallow.linear.kernels.gpu.block_structure import SIZES, make_block_structure
from fallow.linear.kernels.library import library
from fallow.linear.kernels.structure import make_structure, serves
from fallow.linear.paths.update import keeps_places, places
from fallow.linear.terms import Sparse, Terms
from fallow.supports import Block

KERNEL_PATHS = frozenset({"factored", "sparse"})
"""Paths that use the compiled kernels, and so want the structure of a support. Only `sparse` cannot do without them."""

LEAN_PATHS = frozenset({"factored"})
"""Those of them that are for few entries: the kernels derive the structure in each pass, and nothing of it is kept."""

_NONE = torch.empty(0, dtype=torch.int32)
"""Tells the compiled kernels to derive the structure in each pass."""


def structure_of(
    path: str, terms: Terms, shape: tuple[int, int], row_pointers_o: Tensor, columns_n: Tensor
) -> Tensor | None:
    """The structure of a support for a path; None where the path has none, its kernels cannot act, or it is too large.

    Args:
        path: by name.
        terms: of the layer.
        shape: (d_out, d_in).
        row_pointers_o: of the support.
        columns_n: of the support.
    """
    device = columns_n.device.type
    if path in KERNEL_PATHS and device == "cpu" and library() is not None and serves(shape, columns_n, row_pointers_o):
        return _NONE if path in LEAN_PATHS else make_structure(shape, row_pointers_o, columns_n)
    if path == "update" and terms.base is not None and device != "meta" and keeps_places(columns_n.numel()):
        return places(row_pointers_o, columns_n)
    size = block_size(terms)
    if path == "block" and size in SIZES and device != "meta" and not available.missing():
        return make_block_structure(shape, row_pointers_o, columns_n, size)
    return None


def block_size(terms: Terms) -> int:
    """Edge of the blocks of a drawn support; 0 for other supports, and without one."""
    is_block = isinstance(terms.sparse, Sparse) and isinstance(terms.sparse.kind, Block)
    return terms.sparse.kind.size if is_block else 0  # type: ignore[union-attr]
