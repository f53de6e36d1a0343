"""Products of blocks as torch operators, with shapes for the compiler and gradients for autograd.

Shapes: t = tokens, o = d_out, i = d_in, n = number of sparse entries, s = size of the structure.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from fallow.linear.kernels.gpu.sound import require_blocks
from fallow.linear.kernels.operators import flops, plain_gradients, require_one_device, require_shapes

_operators = torch.library.Library("fallow", "FRAGMENT")
_operators.define(
    "block_linear(Tensor x_ti, Tensor values_n, Tensor row_pointers_o, Tensor columns_n, Tensor? bias_o, int size) "
    "-> Tensor"
)
_operators.define(
    "block_linear_backward(Tensor grad_to, Tensor x_ti, Tensor values_n, Tensor row_pointers_o, Tensor columns_n, "
    "Tensor structure_s, int size, bool[2] needs) -> (Tensor, Tensor)"
)


def block_linear(
    x_ti: Tensor,
    values_n: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    structure_s: Tensor,
    bias_o: Tensor | None,
    size: int,
) -> Tensor:
    """Y = x S^T + bias, where S holds `values` in blocks; differentiable. In the type of x, summed in fp32.

    Args:
        x_ti: activations.
        values_n: in the order of the support, in any type of floats.
        row_pointers_o: of the support.
        columns_n: of the support.
        structure_s: from `make_block_structure`.
        bias_o: added to every token.
        size: edge of a block: 16, 32, 64 or 128.
    """
    y_to: Tensor = _BlockLinear.apply(x_ti, values_n, row_pointers_o, columns_n, structure_s, bias_o, size)
    return y_to


class _BlockLinear(torch.autograd.Function):
    """Keeps x and the values for backward."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ti: Tensor,
        values_n: Tensor,
        row_pointers_o: Tensor,
        columns_n: Tensor,
        structure_s: Tensor,
        bias_o: Tensor | None,
        size: int,
    ) -> Tensor:
        ctx.save_for_backward(x_ti, values_n, row_pointers_o, columns_n, structure_s)
        ctx.size, ctx.bias_dtype = size, None if bias_o is None else bias_o.dtype
        y_to: Tensor = torch.ops.fallow.block_linear(x_ti, values_n, row_pointers_o, columns_n, bias_o, size)
        return y_to

    @staticmethod
    def backward(ctx: Any, grad_to: Tensor) -> tuple[Tensor | None, ...]:
        x_ti, values_n, row_pointers_o, columns_n, structure_s = ctx.saved_tensors
        needs_x, needs_values, _, _, _, needs_bias, _ = ctx.needs_input_grad
        needs = [needs_x, needs_values]
        grads: list[Tensor | None] = [None, None]
        if torch.is_grad_enabled():  # gradients of gradients: by plain operations
            grads = plain_gradients(grad_to, x_ti, values_n, row_pointers_o, columns_n, [*needs, False])[:2]
        elif any(needs):
            found = torch.ops.fallow.block_linear_backward(
                grad_to, x_ti, values_n, row_pointers_o, columns_n, structure_s, ctx.size, needs
            )
            grads = [grad if need else None for grad, need in zip(found, needs, strict=True)]
        grad_bias = grad_to.sum(0).to(ctx.bias_dtype) if needs_bias else None
        return grads[0], grads[1], None, None, None, grad_bias, None


def _forward(
    x_ti: Tensor, values_n: Tensor, row_pointers_o: Tensor, columns_n: Tensor, bias_o: Tensor | None, size: int
) -> Tensor:
    from fallow.linear.kernels.gpu.blocks import product

    require_one_device(x_ti, values_n, row_pointers_o, columns_n, bias_o)
    d_out = require_shapes(x_ti, values_n, row_pointers_o, columns_n, bias_o, None)
    require_blocks(row_pointers_o, columns_n, x_ti.shape[1], size)
    if not x_ti.numel() or not values_n.numel():
        y_to = x_ti.new_zeros(x_ti.shape[0], d_out)
        return y_to if bias_o is None else y_to + bias_o.to(y_to.dtype)
    return product(x_ti, values_n, row_pointers_o, columns_n, bias_o, size)


def _backward(
    grad_to: Tensor,
    x_ti: Tensor,
    values_n: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    structure_s: Tensor,
    size: int,
    needs: list[bool],
) -> tuple[Tensor, Tensor]:
    from fallow.linear.kernels.gpu.blocks import gradients

    require_one_device(grad_to, x_ti, values_n, row_pointers_o, columns_n, structure_s)
    require_shapes(x_ti, values_n, row_pointers_o, columns_n, None, grad_to)
    require_blocks(row_pointers_o, columns_n, x_ti.shape[1], size, structure_s)
    if not x_ti.numel() or not values_n.numel():
        grads = [t.new_zeros(t.shape if need else (0,)) for t, need in zip((x_ti, values_n), needs, strict=True)]
        return grads[0], grads[1]
    return gradients(grad_to, x_ti, values_n, row_pointers_o, columns_n, structure_s, size, needs)


def _fake_forward(
    x_ti: Tensor, values_n: Tensor, row_pointers_o: Tensor, columns_n: Tensor, bias_o: Tensor | None, size: int
) -> Tensor:
    require_one_device(x_ti, values_n, row_pointers_o, columns_n, bias_o)
    return x_ti.new_empty(x_ti.shape[0], require_shapes(x_ti, values_n, row_pointers_o, columns_n, bias_o, None))


def _fake_backward(
    grad_to: Tensor,
    x_ti: Tensor,
    values_n: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    structure_s: Tensor,
    size: int,
    needs: list[bool],
) -> tuple[Tensor, Tensor]:
    require_one_device(grad_to, x_ti, values_n, row_pointers_o, columns_n, structure_s)
    require_shapes(x_ti, values_n, row_pointers_o, columns_n, None, grad_to)
    grads = [t.new_empty(t.shape if need else (0,)) for t, need in zip((x_ti, values_n), needs, strict=True)]
    return grads[0], grads[1]


for _device in ("CUDA", "CPU"):  # on the CPU only where Triton interprets its kernels; `available.take` sees to it
    _operators.impl("block_linear", _forward, _device)
    _operators.impl("block_linear_backward", _backward, _device)
torch.library.register_fake("fallow::block_linear", _fake_forward, lib=_operators)
torch.library.register_fake("fallow::block_linear_backward", _fake_backward, lib=_operators)


register_flop_formula(torch.ops.fallow.block_linear)(flops)


@register_flop_formula(torch.ops.fallow.block_linear_backward)
def _flops_backward(grad_shape: Any, x_shape: Any, values_shape: Any, *rest: Any, **__: Any) -> int:
    return int(2 * x_shape[0] * values_shape[0] * sum(rest[-1]))
