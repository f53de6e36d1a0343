"""`materialise` for GPUs: a Triton kernel builds W in one pass, and another takes the gradient at the support.

Shapes: t = tokens, o = d_out, i = d_in, r = rank, n = number of sparse entries.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fallow.linear.kernels.gpu import available
from fallow.linear.kernels.gpu.operators import at_support, build_weight
from fallow.linear.operands import Operands
from fallow.linear.paths.materialise import gradients, materialise


def fused(x: Tensor, operands: Operands) -> Tensor:
    """Y = x W^T + bias with W = base + scale B A + scatter(values), built by one kernel in the type of x.

    The products with x stay with the vendor's library, which no kernel of ours would beat: building W costs a pass over
    d_out x d_in numbers, the products 6 operations a token for each of them. Forward and backward each build W; only x
    and the parameters are kept between. The weight's gradient is one dense product, thrown away once its entries at
    the support and what the factors need are taken.

    Where the kernels do not act (no GPU, fp64, torch.func, gradients of gradients), and for a weight that is a base
    alone or has no support and no factors, this is `materialise`.
    """
    empty = operands.values_n is None or operands.values_n.numel() == 0
    if (empty and operands.a_ri is None) or not available.take(x):
        return materialise(x, operands)
    y_to: Tensor = _Fused.apply(x.reshape(-1, x.shape[-1]), *operands.widened()._replace(structure_s=None))
    return y_to.view(*x.shape[:-1], operands.shape[0])


class _Fused(torch.autograd.Function):
    """Keeps x and the parameters for backward."""

    @staticmethod
    def forward(ctx: Any, x_ti: Tensor, *parts: Any) -> Tensor:
        operands = Operands(*parts)
        ctx.save_for_backward(x_ti, *(part for part in parts if isinstance(part, Tensor)))
        ctx.plain = [None if isinstance(part, Tensor) else part for part in parts]
        ctx.is_tensor = [isinstance(part, Tensor) for part in parts]
        bias_o = None if operands.bias_o is None else operands.bias_o.to(x_ti.dtype)
        return functional.linear(x_ti, build_weight(operands, x_ti.dtype), bias_o)

    @staticmethod
    def backward(ctx: Any, grad_to: Tensor) -> tuple[Tensor | None, ...]:
        x_ti, *tensors = ctx.saved_tensors
        saved = iter(tensors)
        operands = Operands(
            *(next(saved) if is_tensor else plain for is_tensor, plain in zip(ctx.is_tensor, ctx.plain, strict=True))
        )
        if torch.is_grad_enabled():  # gradients of gradients: by plain operations
            return gradients(grad_to, x_ti, operands, ctx.needs_input_grad)

        def built_after(operands: Operands, dtype: torch.dtype) -> Tensor:
            return build_weight(operands, dtype, grad_to)

        return gradients(grad_to, x_ti, operands, ctx.needs_input_grad, built_after, at_support)
