"""The base and the low-rank term as products of their own, for the paths that build no W.

Shapes: t = tokens, o = d_out, i = d_in, r = rank.
"""

import torch
from torch import Tensor
from torch.nn import functional

from fallow.linear.operands import Operands


def other_terms(x: Tensor, operands: Operands) -> Tensor | None:
    """What the terms beside the sparse one give, x base^T + scale (x A^T) B^T; None when there is neither."""
    y: Tensor | None = None
    if operands.base_oi is not None:
        y = functional.linear(x, operands.base_oi.to(x.dtype))
    if operands.a_ri is not None and operands.b_or is not None:
        product = low_rank(x, operands)
        y = product if y is None else y + product
    return y


def low_rank(x: Tensor, operands: Operands) -> Tensor:
    """Scale (x A^T) B^T alone, without the other terms; zero in rows without factors."""
    assert operands.a_ri is not None
    assert operands.b_or is not None
    inner = operands.scale * functional.linear(x, operands.a_ri.to(x.dtype))
    if not operands.rows:
        return functional.linear(inner, operands.b_or.to(x.dtype))
    b, pieces, at = operands.b_or.to(x.dtype), [], 0
    for rows, inside, own in operands.blocks():
        pieces += [x.new_zeros(*x.shape[:-1], rows.start - at), functional.linear(inner[..., inside], b[own])]
        at = rows.stop
    pieces.append(x.new_zeros(*x.shape[:-1], operands.shape[0] - at))
    filled = [piece for piece in pieces if piece.shape[-1]]
    return filled[0] if len(filled) == 1 else torch.cat(filled, dim=-1)
