"""The compiled kernels: only what exists is multiplied, forward and backward; for many tokens on the CPU.

Shapes: t = tokens, o = d_out, i = d_in.
"""

import torch
from torch import Tensor

from fallow.linear.kernels.operators import FLOATS, one_token, sparse_linear, traced, transformed
from fallow.linear.operands import Operands
from fallow.linear.paths.low_rank import other_terms
from fallow.linear.paths.materialise import materialise


def sparse(x: Tensor, operands: Operands) -> Tensor:
    """Y = x base^T + scale (x A^T) B^T + x S^T + bias, each term on its own, the sparse one by the kernels.

    The kernels compute in fp32; half types are widened for them. Where they do not act (another device than the CPU,
    fp64, a support too large for them) this is `materialise`.
    """
    if not kernels_take(x, operands):
        return materialise(x, operands)
    return with_kernels(x, operands)


def kernels_take(x: Tensor, operands: Operands) -> bool:
    """Whether the kernels can compute the sparse term here."""
    here = operands.structure_s is not None and x.device.type == "cpu" and x.dtype in FLOATS
    return here and not transformed()


def with_kernels(x: Tensor, operands: Operands) -> Tensor:
    """The sum of all terms; the other terms and the bias are added while the sparse product is written.

    Where the structure of the support is empty, the kernels derive it in each pass.
    """
    assert operands.values_n is not None
    assert operands.structure_s is not None
    assert operands.row_pointers_o is not None
    assert operands.columns_n is not None
    if _is_one_token(x, operands):
        assert operands.a_ri is not None
        assert operands.b_or is not None
        y_o = one_token(
            x,
            operands.values_n,
            operands.structure_s,
            operands.row_pointers_o,
            operands.columns_n,
            operands.bias_o,
            operands.a_ri,
            operands.b_or,
            operands.scale,
        )
        return y_o.view(*x.shape[:-1], operands.shape[0])
    x_ti = x.reshape(-1, x.shape[-1])
    start_to = other_terms(x_ti, operands)
    y_to = sparse_linear(
        x_ti,
        operands.values_n,
        operands.structure_s,
        operands.row_pointers_o,
        operands.columns_n,
        operands.bias_o,
        start_to,
    )
    return y_to.view(*x.shape[:-1], operands.shape[0])


def _is_one_token(x: Tensor, operands: Operands) -> bool:
    """Whether factors and entries meet a single token, and nobody asks for gradients or looks on."""
    if x.numel() != x.shape[-1] or operands.a_ri is None or operands.base_oi is not None or operands.rows:
        return False
    return x.is_contiguous() and operands.a_ri.dtype in FLOATS and not torch.is_grad_enabled() and not traced()
