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
    """Narrower than d_out where `rows` says which rows it is for; `widened` gives it a row for every row of W."""

    scale: float
    """alpha / rank"""

    values_n: Tensor | None
    row_pointers_o: Tensor | None
    columns_n: Tensor | None
    bias_o: Tensor | None
    rows: tuple[tuple[int, int], ...] = ()
    """Ranges of rows with a pair of factors each, the pairs one above the other in A and in B; empty for one pair over
    all rows."""

    structure_s: Tensor | None = None
    """What a path keeps of the support: its kernels' own, for `update` the places of few entries; or None."""

    block: int = 0
    """Edge of the support's blocks; 0 for other supports."""

    def blocks(self) -> list[tuple[slice, slice, slice]]:
        """For each pair of factors its rows of W, its rows of A, and its rows of B."""
        assert self.a_ri is not None
        ranges = self.rows or ((0, self.shape[0]),)
        rank, found, at = self.a_ri.shape[0] // len(ranges), [], 0
        for number, (start, stop) in enumerate(ranges):
            inside = slice(number * rank, (number + 1) * rank)
            found.append((slice(start, stop), inside, slice(at, at + stop - start)))
            at += stop - start
        return found

    def widened(self) -> "Operands":
        """The same weight with one pair of factors over all rows: blocks of B with zeros between; differentiable."""
        if self.b_or is None or not self.rows:
            return self
        b, pieces, at = self.b_or, [], 0
        for rows, _, own in self.blocks():
            pieces += [b.new_empty(rows.start - at, 0), b[own]]
            at = rows.stop
        wide: Tensor = torch.block_diag(*pieces, b.new_empty(self.shape[0] - at, 0))
        return self._replace(b_or=wide, rows=())

    def flat(self) -> Tensor:
        """Row-major positions of the sparse entries, int64."""
        assert self.row_pointers_o is not None
        assert self.columns_n is not None
        return flat_positions(self.row_pointers_o, self.columns_n, self.shape[1])


def assemble(operands: Operands, dtype: torch.dtype) -> Tensor:
    """W = base + scale * B A + scatter(values), shape (d_out, d_in), in `dtype`; plain torch, differentiable."""
    operands = operands.widened()
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
            rest = weight_oi.reshape(-1)  # no position comes twice: nothing is added up, in whatever order
            weight_oi = rest.scatter(0, flat_n, rest.gather(0, flat_n) + values_n).view(operands.shape)
    assert weight_oi is not None
    return weight_oi
