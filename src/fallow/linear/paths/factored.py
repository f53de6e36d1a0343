"""Each term on its own, no W at all; for low-rank weights, few tokens (decoding) and few entries.

Shapes: t = tokens, o = d_out, i = d_in, r = rank, n = number of sparse entries.
"""

from typing import Any

import torch
from torch import Tensor

from fallow.linear.operands import Operands
from fallow.linear.paths.low_rank import other_terms
from fallow.linear.paths.sparse import kernels_take, with_kernels
from fallow.supports.support import flat_positions

_PIECE = 1 << 21
"""Elements of the temporary (entries x tokens) that one piece of the sparse product may take: 8 MB in fp32."""


def factored(x: Tensor, operands: Operands) -> Tensor:
    """Y = x base^T + scale (x A^T) B^T + x S^T + bias.

    The sparse term is left to the compiled kernels where there are any; they derive what they want to know of the
    support in each pass, and keep nothing. Without them it costs O(tokens * nnz) memory traffic, in pieces of bounded
    size, so it wins where tokens or entries are few. Nothing of size d_out x d_in is ever built.
    """
    if kernels_take(x, operands):
        return with_kernels(x, operands)
    dtype = x.dtype
    y = other_terms(x, operands)
    if operands.values_n is not None:
        y_to: Tensor = _SparseProduct.apply(
            x.reshape(-1, x.shape[-1]), operands.values_n, operands.row_pointers_o, operands.columns_n, operands.shape
        )
        sparse = y_to.view(*x.shape[:-1], operands.shape[0])
        y = sparse if y is None else y + sparse
    assert y is not None
    return y if operands.bias_o is None else y + operands.bias_o.to(dtype)


class _SparseProduct(torch.autograd.Function):
    """y = x S^T, entry by entry: y_o += value * x_i, summed in fp32 at least; of plain operations, as `materialise`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x_ti: Tensor, values_n: Tensor, pointers_o: Tensor, columns_n: Tensor, shape: tuple[int, int]
    ) -> Tensor:
        rows_n, columns_n = _coordinates(pointers_o, columns_n, shape)
        return _scatter_product(x_ti, values_n, columns_n, rows_n, shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x_ti, values_n, pointers_o, columns_n, ctx.shape = inputs
        ctx.save_for_backward(x_ti, values_n, pointers_o, columns_n)

    @staticmethod
    def backward(ctx: Any, grad_to: Tensor) -> tuple[Tensor | None, ...]:
        x_ti, values_n, pointers_o, columns_n = ctx.saved_tensors
        rows_n, columns_n = _coordinates(pointers_o, columns_n, ctx.shape)
        grad_x = grad_values = None
        if ctx.needs_input_grad[0]:
            grad_x = _scatter_product(grad_to, values_n, rows_n, columns_n, ctx.shape[1])
        if ctx.needs_input_grad[1]:
            x_it, grad_ot = _wide(x_ti.t().contiguous()), _wide(grad_to.t().contiguous())
            pieces = [
                (grad_ot[rows_n[piece]] * x_it[columns_n[piece]]).sum(1)
                for piece in _pieces(len(rows_n), x_ti.shape[0])
            ]
            grad_values = torch.cat(pieces).to(values_n.dtype) if pieces else torch.zeros_like(values_n)
        return grad_x, grad_values, None, None, None


def _scatter_product(input_ts: Tensor, values_n: Tensor, sources_n: Tensor, targets_n: Tensor, size: int) -> Tensor:
    """output[:, target] += value * input[:, source] over all entries."""
    input_st = _wide(input_ts.t().contiguous())
    output = torch.zeros(size, input_ts.shape[0], dtype=input_st.dtype, device=input_st.device)
    for piece in _pieces(len(values_n), input_ts.shape[0]):
        terms = values_n[piece, None].to(output.dtype) * input_st[sources_n[piece]]
        output = output.index_add(0, targets_n[piece], terms)
    return output.t().contiguous().to(input_ts.dtype)


def _coordinates(pointers_o: Tensor, columns_n: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    flat_n = flat_positions(pointers_o, columns_n, shape[1])
    return flat_n // shape[1], columns_n.to(torch.int64)


def _pieces(num_entries: int, num_tokens: int) -> list[slice]:
    length = max(1, _PIECE // max(1, num_tokens))
    return [slice(start, min(start + length, num_entries)) for start in range(0, num_entries, length)]


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
