"""Build W, multiply once, gather the gradient at the support; for many tokens, and for GPUs.

Shapes: t = tokens, o = d_out, i = d_in, r = rank, n = number of sparse entries.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fallow.linear.operands import Operands, assemble


def materialise(x: Tensor, operands: Operands) -> Tensor:
    """Y = x W^T + bias with W built in the type of x, used, and thrown away.

    Forward and backward each build W anew (and backward its gradient), so at most one matrix of d_out x d_in per layer
    exists at a time and none is kept from forward to backward: only x and the parameters are. A weight that is a base
    alone is an ordinary linear layer.

    Differs from the released SLTrain code, which keeps the dense W (and a scaled copy of A) for backward.
    """
    bias = None if operands.bias_o is None else operands.bias_o.to(x.dtype)
    if operands.values_n is None and operands.a_ri is None:
        assert operands.base_oi is not None
        return functional.linear(x, operands.base_oi.to(x.dtype), bias)
    operands = operands.widened()
    y_to: Tensor = _Materialise.apply(x.reshape(-1, x.shape[-1]), *operands._replace(bias_o=None, structure_s=None))
    y = y_to.view(*x.shape[:-1], operands.shape[0])
    return y if bias is None else y + bias


class _Materialise(torch.autograd.Function):
    """Made of plain operations, so that it can be differentiated twice and transformed (torch.func)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x_ti: Tensor, *parts: Any) -> Tensor:
        return x_ti @ assemble(Operands(*parts), x_ti.dtype).t()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x_ti, *parts = inputs
        ctx.save_for_backward(x_ti, *(part for part in parts if isinstance(part, Tensor)))
        ctx.is_tensor = [isinstance(part, Tensor) for part in parts]
        ctx.plain = [None if isinstance(part, Tensor) else part for part in parts]

    @staticmethod
    def backward(ctx: Any, grad_to: Tensor) -> tuple[Tensor | None, ...]:
        x_ti, *tensors = ctx.saved_tensors
        saved = iter(tensors)
        operands = Operands(
            *(next(saved) if is_tensor else plain for is_tensor, plain in zip(ctx.is_tensor, ctx.plain, strict=True))
        )
        if torch.compiler.is_compiling():  # else the compiler would share W with the forward, and keep it until here
            operands = operands._replace(
                a_ri=None if operands.a_ri is None else _after(operands.a_ri, grad_to),
                values_n=None if operands.values_n is None else _after(operands.values_n, grad_to),
            )
        return gradients(grad_to, x_ti, operands, ctx.needs_input_grad)


def plainly_at_support(grad_oi: Tensor, operands: Operands) -> Tensor:
    """The entries of a dense matrix at the support, in the type of the values; differentiable."""
    assert operands.values_n is not None
    return grad_oi.reshape(-1)[operands.flat()].to(operands.values_n.dtype)


def gradients(
    grad_to: Tensor,
    x_ti: Tensor,
    operands: Operands,
    needs: Sequence[bool],
    build: Callable[[Operands, torch.dtype], Tensor] = assemble,
    at_support: Callable[[Tensor, Operands], Tensor] = plainly_at_support,
) -> tuple[Tensor | None, ...]:
    """The gradients of x and of each operand, by one dense product for x and one for all terms of W.

    Args:
        grad_to: of the output.
        x_ti: as in forward.
        operands: widened.
        needs: for x and each operand, whether its gradient is wanted.
        build: makes W; by default of plain operations, which can be differentiated again.
        at_support: takes the entries of the dense gradient.
    """
    needs_x, _, needs_base, needs_a, needs_b, _, needs_values, _, _, needs_bias, *rest = needs
    grad_x = grad_to @ build(operands, x_ti.dtype) if needs_x else None
    grad_base = grad_a = grad_b = grad_values = None
    if needs_base or needs_a or needs_b or needs_values:
        grad_oi = grad_to.t() @ x_ti
        if needs_values and operands.values_n is not None:
            grad_values = at_support(grad_oi, operands)
        if operands.a_ri is not None and operands.b_or is not None:
            a_ri, b_or = operands.a_ri, operands.b_or
            if needs_a:
                grad_a = (operands.scale * (b_or.t().to(grad_oi.dtype) @ grad_oi)).to(a_ri.dtype)
            if needs_b:
                grad_b = (operands.scale * (grad_oi @ a_ri.t().to(grad_oi.dtype))).to(b_or.dtype)
        if needs_base and operands.base_oi is not None:
            grad_base = grad_oi.to(operands.base_oi.dtype)
    grad_bias = grad_to.sum(0).to(operands.bias_o.dtype) if needs_bias and operands.bias_o is not None else None
    nothing = (None for _ in rest)
    return grad_x, None, grad_base, grad_a, grad_b, None, grad_values, None, None, grad_bias, *nothing


@torch.library.custom_op("fallow::after", mutates_args=())
def _after(x: Tensor, later: Tensor) -> Tensor:
    """A copy of x that a compiler can only make once `later` exists."""
    return x.clone()


@_after.register_fake
def _(x: Tensor, later: Tensor) -> Tensor:
    return torch.empty_like(x)
