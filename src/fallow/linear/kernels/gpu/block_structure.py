"""What the products of blocks want to know of a support beside its indices: which blocks a column has."""

import torch
from torch import Tensor

SIZES = (16, 32, 64, 128)
"""Edges of blocks that the kernels take: from the smallest product of tensor cores to what their registers hold."""


def block_structure_bytes(shape: tuple[int, int], entries: int, size: int) -> int:
    """Bytes of the structure of a support of blocks, without drawing it."""
    return 4 * (shape[1] // size + 1 + 3 * (entries // size**2))


def make_block_structure(shape: tuple[int, int], row_pointers_o: Tensor, columns_n: Tensor, size: int) -> Tensor:
    """The structure of a support of blocks, int32, on the support's device; 12 bytes a block of size x size.

    One after the other: where each column of blocks begins among the blocks sorted by columns, and one after the last;
    for each of these blocks its row of blocks, and the how-manieth of that row it is; for each block in the order of
    rows, its row.

    Args:
        shape: (d_out, d_in), both multiples of `size`.
        row_pointers_o: of the support.
        columns_n: of the support.
        size: edge of a block.

    >>> pointers, columns = torch.tensor([0, 2, 4, 4, 4]), torch.tensor([2, 3, 2, 3], dtype=torch.uint16)
    >>> make_block_structure((4, 4), pointers, columns, 2).tolist()  # one block, above on the right
    [0, 0, 1, 0, 0, 0]
    """
    begins = row_pointers_o[::size].to(torch.int64) // size**2
    counts = begins.diff()
    num_blocks = columns_n.shape[0] // size**2
    device = columns_n.device
    block_rows = torch.repeat_interleave(torch.arange(counts.shape[0], device=device), counts, output_size=num_blocks)
    numbers = torch.arange(num_blocks, device=device) - begins[block_rows]
    first_entries = begins[block_rows] * size**2 + numbers * size
    block_columns = columns_n.to(torch.int64)[first_entries] // size
    order = torch.argsort(block_columns, stable=True)
    per_column = torch.bincount(block_columns, minlength=shape[1] // size)
    column_begins = torch.cat([per_column.new_zeros(1), per_column.cumsum(0)])
    return torch.cat([column_begins, block_rows[order], numbers[order], block_rows]).to(torch.int32)
