"""Products with a weight of blocks: what is derived from the support, and launches of kernels.

Shapes: t = tokens, o = d_out, i = d_in, n = number of entries, k = number of blocks, s = size of the structure.
"""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from fallow.linear.kernels.gpu.available import on, precision
from fallow.linear.kernels.gpu.block_kernels import backward_input, backward_values, forward
from fallow.linear.kernels.gpu.weight import signed


class _Launch(NamedTuple):
    """How a product is cut."""

    tokens: int
    """Of a program."""

    step: int
    """Columns of a block that are multiplied at a time."""

    depth: int
    """Tokens that are multiplied at a time in the gradient of a block."""

    num_warps: int


def product(
    x_ti: Tensor, values_n: Tensor, row_pointers_o: Tensor, columns_n: Tensor, bias_o: Tensor | None, size: int
) -> Tensor:
    """Y = x S^T + bias, in the type of x, summed in fp32."""
    x_ti, values_n, launch = x_ti.contiguous(), values_n.contiguous(), _launch(x_ti, size)
    (tokens, d_in), d_out = x_ti.shape, row_pointers_o.shape[0] - 1
    y_to = x_ti.new_empty(tokens, d_out)
    with on(x_ti):
        forward[(triton.cdiv(tokens, launch.tokens) * (d_out // size),)](
            y_to,
            x_ti,
            values_n,
            None if bias_o is None else bias_o.contiguous(),
            row_pointers_o,
            signed(columns_n),
            tokens,
            d_out,
            d_in,
            bias_o is not None,
            columns_n.dtype == torch.uint16,
            size,
            launch.step,
            launch.tokens,
            precision(),
            num_warps=launch.num_warps,
        )
    return y_to


def gradients(
    grad_to: Tensor,
    x_ti: Tensor,
    values_n: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    structure_s: Tensor,
    size: int,
    needs: list[bool],
) -> tuple[Tensor, Tensor]:
    """Those of x and of the values; empty where they are not needed."""
    grad_to, x_ti, values_n, launch = (
        grad_to.contiguous(),
        x_ti.contiguous(),
        values_n.contiguous(),
        _launch(x_ti, size),
    )
    (tokens, d_in), d_out, num_blocks = x_ti.shape, grad_to.shape[1], values_n.shape[0] // size**2
    grad_x = x_ti.new_empty(x_ti.shape if needs[0] else (0,))
    grad_values = values_n.new_empty(values_n.shape if needs[1] else (0,))
    column_begins, block_rows, numbers, rows_of_blocks = structure_s.split(
        [d_in // size + 1, num_blocks, num_blocks, num_blocks]
    )
    with on(x_ti):
        if needs[0]:
            backward_input[(triton.cdiv(tokens, launch.tokens) * (d_in // size),)](
                grad_x,
                grad_to,
                values_n,
                row_pointers_o,
                column_begins,
                block_rows,
                numbers,
                tokens,
                d_out,
                d_in,
                size,
                launch.step,
                launch.tokens,
                precision(),
                num_warps=launch.num_warps,
            )
        if needs[1]:
            backward_values[(num_blocks,)](
                grad_values,
                grad_to,
                x_ti,
                row_pointers_o,
                signed(columns_n),
                rows_of_blocks,
                tokens,
                d_out,
                d_in,
                columns_n.dtype == torch.uint16,
                size,
                launch.depth,
                precision(),
                num_warps=max(1, size // 16),
            )
    return grad_x, grad_values


def _launch(x_ti: Tensor, size: int) -> _Launch:
    """Three steps of both operands in flight fit into the shared memory of a multiprocessor, also in fp32."""
    depth = 32 if x_ti.element_size() == 4 else 64
    tokens = min(128, max(16, triton.next_power_of_2(x_ti.shape[0])))
    return _Launch(tokens, min(size, depth), depth, 8 if size == 128 else 4)
