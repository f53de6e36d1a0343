"""How far a weight moved: cosine distance, norms, relative change."""

import math
from dataclasses import dataclass

from torch import Tensor

_PART = 1 << 22
"""Entries that are doubled at once: an embedding would otherwise take several times its size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distance:
    """Two tensors of the same shape, as vectors a and b."""

    cosine: float | None
    """1 - a.b / (|a| |b|), from 0 (the same direction) to 2; None when one of them is zero and the other is not."""

    norm_a: float
    norm_b: float

    change: float | None
    """|b - a| / |a|; None when a is zero."""

    @property
    def ratio(self) -> float | None:
        """|b| / |a|; None when a is zero."""
        return self.norm_b / self.norm_a if self.norm_a else None


def distance(a: Tensor, b: Tensor) -> Distance:
    r"""Distances between two tensors, computed in float64.

        cosine = 1 - cos(a, b) = |a/|a| - b/|b||^2 / 2

    The second form is the one that is computed: where a and b nearly agree, as before and after fine-tuning, the first
    would subtract two numbers that agree in most of their digits.

    Args:
        a: the weight before.
        b: the weight after, of the same shape.

    Source: SPDF, figures 3 and 4 (the distance of pre-trained and fine-tuned matrices, layer by layer).

    >>> import torch
    >>> found = distance(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 6.0]))
    >>> found.cosine, found.ratio, round(found.change, 3)
    (1.0, 2.0, 2.236)
    """
    parts = list(zip(a.reshape(-1).split(_PART), b.reshape(-1).split(_PART), strict=True))
    norm_a, norm_b = (math.sqrt(sum(_squares(pair[side].double()) for pair in parts)) for side in (0, 1))
    if norm_a and norm_b:
        turned = sum(_squares(x.double() / norm_a - y.double() / norm_b) for x, y in parts)
        cosine: float | None = turned / 2
    else:
        cosine = 0.0 if norm_a == norm_b else None
    moved = math.sqrt(sum(_squares(y.double() - x.double()) for x, y in parts))
    return Distance(cosine=cosine, norm_a=norm_a, norm_b=norm_b, change=moved / norm_a if norm_a else None)


def _squares(values: Tensor) -> float:
    return float(values.square().sum())
