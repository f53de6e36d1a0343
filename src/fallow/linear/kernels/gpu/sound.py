"""What a support must be before kernels in Triton walk it; looked at once for the tensors that hold it.

Shapes: o = d_out, n = number of entries, s = size of the structure.
"""

import torch
from torch import Tensor

from fallow.linear.kernels.gpu.block_structure import SIZES, make_block_structure
from fallow.linear.kernels.sound import recall, remember
from fallow.supports.support import flat_positions

_POINTERS, _COLUMNS = (torch.int32, torch.int64), (torch.uint16, torch.int32)


def require_support(row_pointers_o: Tensor, columns_n: Tensor, d_in: int) -> None:
    """Refuse a support that is not sound: an index outside the matrix would be an address outside its memory.

    Args:
        row_pointers_o: of the support.
        columns_n: of the support.
        d_in: columns of the matrix.

    Raises:
        ValueError: the pointers or columns do not ascend, lie outside, or are of another type.
    """
    about, tensors = ("support", d_in), (row_pointers_o, columns_n)
    if recall(about, tensors) is None:
        if not _is_sound(row_pointers_o, columns_n, d_in):
            raise ValueError(
                f"the support is not sound for {d_in} columns: its pointers or columns do not ascend, lie outside the "
                f"matrix, or are of another type ({row_pointers_o.dtype}, {columns_n.dtype})"
            )
        remember(about, tensors, True)


def _is_sound(row_pointers_o: Tensor, columns_n: Tensor, d_in: int) -> bool:
    typed = row_pointers_o.dtype in _POINTERS and columns_n.dtype in _COLUMNS
    plain = row_pointers_o.is_contiguous() and columns_n.is_contiguous() and row_pointers_o.device == columns_n.device
    if not typed or not plain or not row_pointers_o.dim() == columns_n.dim() == 1 or row_pointers_o.numel() < 2:
        return False
    ends = row_pointers_o[[0, -1]].tolist()
    if ends != [0, columns_n.numel()] or bool((row_pointers_o.diff() < 0).any()):
        return False
    wide_n = columns_n.to(torch.int64)
    if bool(((wide_n < 0) | (wide_n >= d_in)).any()):
        return False
    return bool((flat_positions(row_pointers_o, columns_n, d_in).diff() > 0).all())


def require_blocks(
    row_pointers_o: Tensor, columns_n: Tensor, d_in: int, size: int, structure_s: Tensor | None = None
) -> None:
    """Refuse a support that is not made of blocks, and a structure that is not its own.

    Args:
        row_pointers_o: of the support.
        columns_n: of the support.
        d_in: columns of the matrix.
        size: edge of a block.
        structure_s: of the support; None where it is not used.

    Raises:
        ValueError: says which of the two.
    """
    require_support(row_pointers_o, columns_n, d_in)
    about, tensors = ("blocks", d_in, size), (row_pointers_o, columns_n)
    if recall(about, tensors) is None:
        if not _is_of_blocks(row_pointers_o, columns_n.to(torch.int64), d_in, size):
            raise ValueError(f"the support is not made of blocks of {size} x {size} for {d_in} columns")
        remember(about, tensors, True)
    if structure_s is not None and recall(about, (*tensors, structure_s)) is None:
        own_s = make_block_structure((row_pointers_o.numel() - 1, d_in), row_pointers_o, columns_n, size)
        same = structure_s.device == own_s.device and structure_s.dtype == own_s.dtype and structure_s.is_contiguous()
        if not same or not torch.equal(structure_s, own_s):
            raise ValueError("the structure of blocks was made for another support")
        remember(about, (*tensors, structure_s), True)


def _is_of_blocks(row_pointers_o: Tensor, columns_n: Tensor, d_in: int, size: int) -> bool:
    d_out, counts_o = row_pointers_o.numel() - 1, row_pointers_o.diff()
    if size not in SIZES or d_out % size or d_in % size or bool((counts_o % size != 0).any()):
        return False
    if bool((counts_o.view(-1, size) != counts_o[::size, None]).any()):
        return False
    runs = columns_n.view(-1, size)
    first = runs[:, :1]
    if bool((first % size != 0).any()) or bool((runs != first + torch.arange(size, device=runs.device)).any()):
        return False
    begins_o = row_pointers_o[:-1].to(torch.int64)
    above_o = begins_o - begins_o[::size].repeat_interleave(size)  # entries of its row of blocks before those of a row
    above_n = above_o.repeat_interleave(counts_o, output_size=columns_n.numel())
    in_first_row_n = torch.arange(columns_n.numel(), device=columns_n.device) - above_n
    return torch.equal(columns_n, columns_n[in_first_row_n])
