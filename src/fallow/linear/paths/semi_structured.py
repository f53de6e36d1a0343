"""2:4 on sparse tensor cores, forward and input gradient; for supports of kind `transposable` on GPUs.

Shapes: t = tokens, o = d_out, i = d_in.
"""

from typing import Any

import torch
from torch import Tensor

from fallow.linear.kernels.gpu import available, two_four
from fallow.linear.kernels.gpu.operators import at_support, build_weight
from fallow.linear.kernels.gpu.two_four import two_four_linear
from fallow.linear.kernels.operators import transformed
from fallow.linear.operands import Operands, assemble
from fallow.linear.paths.low_rank import other_terms
from fallow.linear.paths.materialise import gradients, materialise, plainly_at_support


def semi_structured(x: Tensor, operands: Operands) -> Tensor:
    """Y = x base^T + scale (x A^T) B^T + x S^T + bias, the sparse term by torch's 2:4 kernels.

    Of the three products of the sparse term, forward y = x S^T and input gradient g S have half the operations: a
    transposable support is 2:4 along columns and along rows, so S and its transpose are both 2:4. The weight's gradient
    g^T x is a dense product, of which the entries at the support are taken. With all three at their ceiling, forward
    and backward take 2/3 of dense. Each pass builds S and compresses it, and keeps neither.

    All gradients are exact, as those of `materialise`. **Differs from SLoPe** (Mozaffari et al., 2024) and from the 2:4
    training of Hu et al. (2024): SLoPe's support is 2:4 in rows alone, and the input gradient goes by a second support
    with fewer entries; Hu et al. choose transposable supports by magnitude, and again while training, and make g 2:4 at
    random for the third product. Both give gradients that are estimates.

    In fp32, where torch has no such kernels here, and where plain operations are wanted (torch.func, gradients of
    gradients), this is `materialise`.
    """
    if operands.values_n is None or not _takes(x):
        return materialise(x, operands)
    x_ti = x.reshape(-1, x.shape[-1])
    alone = operands._replace(base_oi=None, a_ri=None, b_or=None, rows=(), structure_s=None)
    y_to: Tensor = _SemiStructured.apply(x_ti, *alone)
    rest_to = other_terms(x_ti, operands)
    y_to = y_to if rest_to is None else y_to + rest_to
    return y_to.view(*x.shape[:-1], operands.shape[0])


def _takes(x: Tensor) -> bool:
    return x.is_cuda and x.dtype in two_four.NARROW and x.numel() > 0 and not two_four.missing() and not transformed()


class _SemiStructured(torch.autograd.Function):
    """Keeps x and the values for backward."""

    @staticmethod
    def forward(ctx: Any, x_ti: Tensor, *parts: Any) -> Tensor:
        operands = Operands(*parts)
        ctx.save_for_backward(x_ti, operands.values_n, operands.row_pointers_o, operands.columns_n, operands.bias_o)
        ctx.rest = operands._replace(values_n=None, row_pointers_o=None, columns_n=None, bias_o=None)
        bias_o = None if operands.bias_o is None else operands.bias_o.to(x_ti.dtype)
        return two_four_linear(x_ti, _built(operands, x_ti), bias_o)

    @staticmethod
    def backward(ctx: Any, grad_to: Tensor) -> tuple[Tensor | None, ...]:
        x_ti, values_n, row_pointers_o, columns_n, bias_o = ctx.saved_tensors
        operands = ctx.rest._replace(
            values_n=values_n, row_pointers_o=row_pointers_o, columns_n=columns_n, bias_o=bias_o
        )
        if torch.is_grad_enabled():  # gradients of gradients: by plain operations
            return gradients(grad_to, x_ti, operands, ctx.needs_input_grad)
        needs_x, *needs = ctx.needs_input_grad
        take = at_support if available.take(x_ti) else plainly_at_support
        _, *found = gradients(grad_to, x_ti, operands, [False, *needs], at_support=take)
        if not needs_x:
            return None, *found
        transposed_io = _built(operands, grad_to, grad_to).t().contiguous()
        return two_four_linear(grad_to.contiguous(), transposed_io), *found


def _built(operands: Operands, like: Tensor, later: Tensor | None = None) -> Tensor:
    """S, by the kernel of `fused` where there is Triton."""
    if available.take(like):
        return build_weight(operands, like.dtype, later)
    return assemble(operands, like.dtype)
