"""A weight built from its terms in one pass, and the entries of a gradient taken at the support."""

import torch
import triton
from torch import Tensor

from fallow.linear.kernels.gpu.available import on, precision
from fallow.linear.kernels.gpu.weight_kernels import build_rows, build_tiles, take_rows

_WIDEST_FILL = 4096
_WIDEST_CHUNK = 1024


def build(
    shape: tuple[int, int],
    dtype: torch.dtype,
    base_oi: Tensor | None,
    a_ri: Tensor | None,
    b_or: Tensor | None,
    scale: float,
    values_n: Tensor | None,
    row_pointers_o: Tensor | None,
    columns_n: Tensor | None,
) -> Tensor:
    """W (d_out, d_in) = base + scale B A + scatter(values) in `dtype`, each entry written once to memory.

    Factors go by tiles, since they are multiplied; without them a row is a program, and no entry has to be looked for.
    """
    d_out, d_in = shape
    like = next(tensor for tensor in (values_n, b_or, base_oi) if tensor is not None)
    weight_oi = torch.empty(shape, dtype=dtype, device=like.device)
    narrow = columns_n is not None and columns_n.dtype == torch.uint16
    columns_n = signed(columns_n)
    base_oi, a_ri, b_or, values_n = (None if t is None else t.contiguous() for t in (base_oi, a_ri, b_or, values_n))
    with on(weight_oi):
        if a_ri is None or b_or is None:
            fill = min(_WIDEST_FILL, triton.next_power_of_2(d_in))
            chunk = _chunk(columns_n, d_out)
            build_rows[(d_out,)](
                weight_oi, base_oi, values_n, row_pointers_o, columns_n, d_in, base_oi is not None, narrow, fill, chunk
            )
            return weight_oi
        rows, columns = min(64, _at_least_16(d_out)), min(128, _at_least_16(d_in))
        grid = (triton.cdiv(d_out, rows) * triton.cdiv(d_in, columns),)
        build_tiles[grid](
            weight_oi,
            base_oi,
            a_ri,
            b_or,
            values_n,
            row_pointers_o,
            columns_n,
            d_out,
            d_in,
            a_ri.shape[0],
            scale,
            base_oi is not None,
            values_n is not None,
            narrow,
            d_in.bit_length(),
            rows,
            columns,
            min(32, _at_least_16(a_ri.shape[0])),
            min(32, columns),
            precision(),
        )
    return weight_oi


def take(weight_oi: Tensor, row_pointers_o: Tensor, columns_n: Tensor, dtype: torch.dtype) -> Tensor:
    """The entries of a dense matrix at the support, shape (nnz,), in `dtype`."""
    weight_oi = weight_oi.contiguous()
    found_n = torch.empty(columns_n.shape[0], dtype=dtype, device=weight_oi.device)
    d_out, d_in = weight_oi.shape
    narrow, chunk = columns_n.dtype == torch.uint16, _chunk(columns_n, d_out)
    with on(weight_oi):
        take_rows[(d_out,)](found_n, weight_oi, row_pointers_o, signed(columns_n), d_in, narrow, chunk)
    return found_n


def signed(columns_n: Tensor | None) -> Tensor | None:
    """16-bit columns as signed numbers, bit for bit: not every version of Triton takes torch's unsigned ones."""
    return columns_n.view(torch.int16) if columns_n is not None and columns_n.dtype == torch.uint16 else columns_n


def _chunk(columns_n: Tensor | None, d_out: int) -> int:
    """Entries to walk at once: about those of a row."""
    entries = 0 if columns_n is None else columns_n.shape[0]
    return int(min(_WIDEST_CHUNK, triton.next_power_of_2(max(32, triton.cdiv(entries, max(1, d_out))))))


def _at_least_16(size: int) -> int:
    return int(max(16, triton.next_power_of_2(size)))
