"""A dense base as a stock layer computes it, with a small update added to its result; for LoRA and DSEE.

Shapes: t = tokens, o = d_out, i = d_in, r = rank, n = number of sparse entries.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from fallow.linear.operands import Operands
from fallow.linear.paths.factored import factored

_FEW = 1024


def update(x: Tensor, operands: Operands) -> Tensor:
    """Y = x base^T + bias, then in place: y += scale (x A^T) B^T and y[:, row] += value * x[:, column].

    The base is read once and never copied; a frozen one gets no gradient. Beside y there are (tokens, rank) and
    (tokens, entries), so this is for narrow factors and few entries. A weight without a base is left to `factored`.
    """
    if operands.base_oi is None:
        return factored(x, operands)
    if operands.values_n is None and operands.a_ri is None:
        bias = None if operands.bias_o is None else operands.bias_o.to(x.dtype)
        return functional.linear(x, operands.base_oi.to(x.dtype), bias)
    rows_n = columns_n = None
    if operands.values_n is not None:
        assert operands.row_pointers_o is not None
        assert operands.columns_n is not None
        kept = operands.structure_s
        known = places(operands.row_pointers_o, operands.columns_n) if kept is None else kept
        rows_n, columns_n = known.unbind(0)
    y_to: Tensor = _Update.apply(
        x.reshape(-1, x.shape[-1]),
        operands.base_oi,
        operands.bias_o,
        operands.a_ri,
        operands.b_or,
        operands.scale,
        operands.values_n,
        rows_n,
        columns_n,
        operands.blocks() if operands.a_ri is not None else [],
    )
    return y_to.view(*x.shape[:-1], operands.shape[0])


def places(row_pointers_o: Tensor, columns_n: Tensor) -> Tensor:
    """Rows and columns of the entries, (2, n) of int64."""
    numbers_o = torch.arange(len(row_pointers_o) - 1, device=columns_n.device)
    rows_n = torch.repeat_interleave(numbers_o, row_pointers_o.diff(), output_size=columns_n.numel())
    return torch.stack((rows_n, columns_n.to(torch.int64)))


def keeps_places(num_entries: int) -> bool:
    """Whether a layer keeps them, 16 bytes an entry: so few that finding them anew takes as long as using them."""
    return num_entries <= _FEW


class _Update(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ti: Tensor,
        base_oi: Tensor,
        bias_o: Tensor | None,
        a_ri: Tensor | None,
        b_or: Tensor | None,
        scale: float,
        values_n: Tensor | None,
        rows_n: Tensor | None,
        columns_n: Tensor | None,
        blocks: list[tuple[slice, slice, slice]],
    ) -> Tensor:
        dtype = x_ti.dtype
        inner_tr = picked_tn = None  # while x is in the processor's cache, and y then while y is
        if a_ri is not None:
            inner_tr = x_ti @ a_ri.to(dtype).t()
        if values_n is not None and columns_n is not None:
            picked_tn = x_ti.index_select(1, columns_n).mul_(values_n.to(dtype))
        y_to = functional.linear(x_ti, base_oi.to(dtype), None if bias_o is None else bias_o.to(dtype))
        if inner_tr is not None and b_or is not None:
            for rows, inside, own in blocks:
                y_to[:, rows].addmm_(inner_tr[:, inside], b_or[own].to(dtype).t(), alpha=scale)
        if picked_tn is not None and rows_n is not None:
            y_to.index_add_(1, rows_n, picked_tn)
        ctx.save_for_backward(x_ti, base_oi, a_ri, b_or, inner_tr, values_n, rows_n, columns_n)
        ctx.scale, ctx.bias_dtype, ctx.blocks = scale, None if bias_o is None else bias_o.dtype, blocks
        return y_to

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_to: Tensor) -> tuple[Tensor | None, ...]:
        x_ti, base_oi, a_ri, b_or, inner_tr, values_n, rows_n, columns_n = ctx.saved_tensors
        needs_x, needs_base, needs_bias, needs_a, needs_b, _, needs_values, *_ = ctx.needs_input_grad
        dtype = grad_to.dtype
        grad_x = grad_to @ base_oi.to(dtype) if needs_x else None
        grad_base = (grad_to.t() @ x_ti).to(base_oi.dtype) if needs_base else None
        grad_bias = grad_to.sum(0).to(ctx.bias_dtype) if needs_bias else None
        grad_a = grad_b = grad_values = None
        if a_ri is not None and b_or is not None:
            grad_tr = x_ti.new_empty(x_ti.shape[0], a_ri.shape[0]) if needs_x or needs_a else None
            if grad_tr is not None:
                for rows, inside, own in ctx.blocks:
                    grad_tr[:, inside] = grad_to[:, rows] @ b_or[own].to(dtype)
            if grad_x is not None and grad_tr is not None:
                grad_x.addmm_(grad_tr, a_ri.to(dtype), alpha=ctx.scale)
            if needs_a and grad_tr is not None:
                grad_a = (ctx.scale * (grad_tr.t() @ x_ti)).to(a_ri.dtype)
            if needs_b:
                parts = [grad_to[:, rows].t() @ inner_tr[:, inside] for rows, inside, _ in ctx.blocks]
                grad_b = (ctx.scale * torch.cat(parts)).to(b_or.dtype)
        if values_n is not None:
            grad_tn = grad_to.index_select(1, rows_n)
            if needs_values:
                grad_values = (grad_tn * x_ti.index_select(1, columns_n)).sum(0).to(values_n.dtype)
            if grad_x is not None:
                grad_x.index_add_(1, columns_n, grad_tn * values_n.to(dtype))
        return grad_x, grad_base, grad_bias, grad_a, grad_b, None, grad_values, None, None, None
