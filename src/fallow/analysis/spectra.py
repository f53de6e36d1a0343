"""Singular values of weights, and which term of a sum each one comes from."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values of a matrix, largest first."""

    values: tuple[float, ...]

    def energy(self, rank: int) -> float | None:
        """Share of the squared norm in the first `rank` values; None for the zero matrix."""
        total = sum(value * value for value in self.values)
        return sum(value * value for value in self.values[:rank]) / total if total else None

    @property
    def stable_rank(self) -> float | None:
        """|W|_F^2 / sigma_1^2: how many directions of the strength of the first there would have to be."""
        first = self.values[0] if self.values else 0.0
        return sum(value * value for value in self.values) / (first * first) if first else None

    def rank_of(self, share: float) -> int:
        """The smallest rank whose first values hold this share of the squared norm.

        >>> Spectrum((3.0, 2.0, 1.0)).rank_of(0.9)
        2
        """
        total = sum(value * value for value in self.values)
        held = 0.0
        for rank, value in enumerate(self.values):
            if held >= share * total:
                return rank
            held += value * value
        return len(self.values)


def spectrum(weight: Tensor) -> Spectrum:
    """Singular values of a matrix, in float64.

    Source: SLTrain, figure 2 (pre-trained weights have a few large values and a long tail that low rank cannot hold).
    """
    return Spectrum(tuple(torch.linalg.svdvals(weight.double()).tolist()))


@dataclass(frozen=True, slots=True)
class Composition:
    """What each term of W = L + S gives to each singular value of W; the two add up to it."""

    low_rank: tuple[float, ...]
    rest: tuple[float, ...]


def composition(weight: Tensor, low_rank: Tensor) -> Composition:
    r"""Split the singular values of a weight between its low-rank term and the rest.

        W = U diag(s) V^T,   s = diag(U^T L V) + diag(U^T (W - L) V)

    Args:
        weight: W, (d_out, d_in).
        low_rank: the term L = (alpha / r) B A, of the same shape.

    Source: SLTrain, figure 10 (the low-rank term carries the head of the spectrum, the sparse one its tail).
    """
    w, term = weight.double(), low_rank.double()
    u, s, vh = torch.linalg.svd(w, full_matrices=False)
    part = ((u.T @ term) * vh).sum(dim=1)
    return Composition(tuple(part.tolist()), tuple((s - part).tolist()))
