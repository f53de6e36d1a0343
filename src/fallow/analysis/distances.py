"""How far a weight moved: cosine distance, norms, relative change."""

from dataclasses import dataclass

from torch import Tensor


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
    a, b = a.double().flatten(), b.double().flatten()
    norm_a, norm_b = float(a.norm()), float(b.norm())
    if norm_a and norm_b:
        cosine: float | None = float((a / norm_a - b / norm_b).square().sum()) / 2
    else:
        cosine = 0.0 if norm_a == norm_b else None
    change = float((b - a).norm()) / norm_a if norm_a else None
    return Distance(cosine=cosine, norm_a=norm_a, norm_b=norm_b, change=change)
