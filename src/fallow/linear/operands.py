"""The tensors of a reparametrised weight, and the weight they add up to.

Shapes: o = d_out, i = d_in, r = rank, n = number of sparse entries.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fallow.supports.support import flat_positions


class Operands(NamedTuple):
    """The terms of one weight as tensors; None is an absent term. Every execution path takes exactly this."""

    shape: tuple[int, int]
    """(d_out, d_in)"""

    base_oi: Tensor | None
    a_ri: Tensor | None
    b_or: Tensor | None
    scale: float
    """alpha / rank"""

    values_n: Tensor | None
    row_pointers_o: Tensor | None
    columns_n: Tensor | None
    bias_o: Tensor | None

    def flat(self) -> Tensor:
        """Row-major positions of the sparse entries, int64."""
        assert self.row_pointers_o is not None
        assert self.columns_n is not None
        return flat_positions(self.row_pointers_o, self.columns_n, self.shape[1])


def assemble(operands: Operands, dtype: torch.dtype) -> Tensor:
    """W = base + scale * B A + scatter(values), shape (d_out, d_in), in `dtype`; plain torch, differentiable."""
    weight_oi: Tensor | None = None
    if operands.base_oi is not None:
        weight_oi = operands.base_oi.to(dtype)
    if operands.a_ri is not None and operands.b_or is not None:
        product_oi = operands.scale * (operands.b_or.to(dtype) @ operands.a_ri.to(dtype))
        weight_oi = product_oi if weight_oi is None else weight_oi + product_oi
    if operands.values_n is not None:
        values_n, flat_n = operands.values_n.to(dtype), operands.flat()
        if weight_oi is None:
            size = operands.shape[0] * operands.shape[1]
            weight_oi = values_n.new_zeros(size).scatter(0, flat_n, values_n).view(operands.shape)
        else:
            weight_oi = weight_oi.reshape(-1).scatter_add(0, flat_n, values_n).view(operands.shape)
    assert weight_oi is not None
    return weight_oi
