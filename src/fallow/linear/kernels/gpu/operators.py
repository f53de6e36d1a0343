"""The kernels for GPUs as torch operators, with shapes for the compiler.

Shapes: t = tokens, o = d_out, i = d_in, r = rank, n = number of sparse entries.
"""

from typing import Any

import torch
from torch import Tensor

from fallow.linear.operands import Operands

_operators = torch.library.Library("fallow", "FRAGMENT")
_operators.define(
    "build_weight(int d_out, int d_in, ScalarType dtype, Tensor? base_oi, Tensor? a_ri, Tensor? b_or, float scale, "
    "Tensor? values_n, Tensor? row_pointers_o, Tensor? columns_n, Tensor? later) -> Tensor"
)
_operators.define("at_support(Tensor weight_oi, Tensor row_pointers_o, Tensor columns_n, ScalarType dtype) -> Tensor")


def build_weight(operands: Operands, dtype: torch.dtype, later: Tensor | None = None) -> Tensor:
    """W (d_out, d_in) in `dtype`, in one pass over memory; not differentiable on its own.

    Args:
        operands: the terms; with factors for rows of their own, widened.
        dtype: of the weight; factors are cast to it, and their product is summed in fp32.
        later: a tensor that must exist before W is built. A compiler sees two equal weights in forward and backward,
            and would keep the first; the gradient of the output, given here in backward, makes them differ.
    """
    weight_oi: Tensor = torch.ops.fallow.build_weight(
        *operands.shape,
        dtype,
        operands.base_oi,
        operands.a_ri,
        operands.b_or,
        operands.scale,
        operands.values_n,
        operands.row_pointers_o,
        operands.columns_n,
        later,
    )
    return weight_oi


def at_support(weight_oi: Tensor, operands: Operands) -> Tensor:
    """The entries of a dense matrix (d_out, d_in) at the support, in the type of the values; shape (nnz,)."""
    assert operands.values_n is not None
    values_n: Tensor = torch.ops.fallow.at_support(
        weight_oi, operands.row_pointers_o, operands.columns_n, operands.values_n.dtype
    )
    return values_n


def _build_weight(
    d_out: int,
    d_in: int,
    dtype: torch.dtype,
    base_oi: Tensor | None,
    a_ri: Tensor | None,
    b_or: Tensor | None,
    scale: float,
    values_n: Tensor | None,
    row_pointers_o: Tensor | None,
    columns_n: Tensor | None,
    later: Tensor | None,
) -> Tensor:
    from fallow.linear.kernels.gpu.weight import build

    return build((d_out, d_in), dtype, base_oi, a_ri, b_or, scale, values_n, row_pointers_o, columns_n)


def _at_support(weight_oi: Tensor, row_pointers_o: Tensor, columns_n: Tensor, dtype: torch.dtype) -> Tensor:
    from fallow.linear.kernels.gpu.weight import take

    return take(weight_oi, row_pointers_o, columns_n, dtype)


def _fake_build_weight(d_out: int, d_in: int, dtype: torch.dtype, *terms: Any) -> Tensor:
    like = next(term for term in terms if isinstance(term, Tensor))
    return like.new_empty(d_out, d_in, dtype=dtype)


def _fake_at_support(weight_oi: Tensor, row_pointers_o: Tensor, columns_n: Tensor, dtype: torch.dtype) -> Tensor:
    return weight_oi.new_empty(columns_n.shape[0], dtype=dtype)


for _device in ("CUDA", "CPU"):  # on the CPU only where Triton interprets its kernels; `available.take` sees to it
    _operators.impl("build_weight", _build_weight, _device)
    _operators.impl("at_support", _at_support, _device)
torch.library.register_fake("fallow::build_weight", _fake_build_weight, lib=_operators)
torch.library.register_fake("fallow::at_support", _fake_at_support, lib=_operators)
