"""How the values of a sparse term begin, and how factors do. A term holds one of these; nothing else decides it.

n: number of entries of the support.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fallow.random import Key


class Start(Protocol):
    """A rule for the first values."""

    def values(self, weight_n: Tensor, d_in: int, key: Key) -> Tensor:
        """The values, in the type and on the device of the layer's own weight at the support.

        Args:
            weight_n: what the layer's weight was at the support.
            d_in: columns of the matrix.
            key: names the random stream, if one is drawn from; the same on every process.
        """
        ...


@dataclass(frozen=True, slots=True)
class FromWeight:
    """`scale` times the weight that the layer had: a mask laid on it (SPDF).

    >>> FromWeight(2.0).values(torch.tensor([1.0, -3.0]), 8, Key(0)).tolist()
    [2.0, -6.0]
    """

    scale: float = 1.0
    """SuPar has 1 / sqrt(density)."""

    def values(self, weight_n: Tensor, d_in: int, key: Key) -> Tensor:
        """The weight at the support, times the scale."""
        return weight_n * self.scale


@dataclass(frozen=True, slots=True)
class Drawn:
    """Uniform in +-1 / sqrt(d_in), drawn from the key: the start of SLTrain, whatever the layer's weight was.

    >>> bool(Drawn().values(torch.zeros(100), 16, Key(0)).abs().max() <= 0.25)
    True
    """

    def values(self, weight_n: Tensor, d_in: int, key: Key) -> Tensor:
        """Independent draws."""
        return symmetric(key.child("values"), weight_n.numel(), d_in).to(weight_n)


@dataclass(frozen=True, slots=True)
class Zeros:
    """Zero: a term that changes nothing until it is trained, beside a base that is kept."""

    def values(self, weight_n: Tensor, d_in: int, key: Key) -> Tensor:
        """Zeros."""
        return torch.zeros_like(weight_n)


class FactorStart(Protocol):
    """A rule for the first factors: both are uniform, each within a bound of its own."""

    def bounds(self, rank: int, alpha: float, weight_oi: Tensor) -> tuple[float, float]:
        """The bounds of A and of B; 0 for zeros.

        Args:
            rank: width of the factors.
            alpha: their product is scaled by alpha / rank.
            weight_oi: the weight that the layer had, (d_out, d_in).
        """
        ...


@dataclass(frozen=True, slots=True)
class NoProduct:
    """A uniform in +-1 / sqrt(d_in) (Kaiming), B zero, as in LoRA: beside another term, which alone makes W at first.

    >>> NoProduct().bounds(rank=8, alpha=16, weight_oi=torch.zeros(32, 64))
    (0.125, 0.0)
    """

    def bounds(self, rank: int, alpha: float, weight_oi: Tensor) -> tuple[float, float]:
        """Kaiming's for A; B is zero."""
        return 1.0 / math.sqrt(weight_oi.shape[1]), 0.0


@dataclass(frozen=True, slots=True)
class WholeWeight:
    """Both factors alike, so that (alpha / rank) B A is as large as the weight that the layer had: they are all of W.

    With B at zero in every layer, a model could not learn: what stands before a zero weight gets no gradient, and
    neither does a factor whose input is zero, so that attention and MLP would wait for each other for ever.

    >>> a, b = WholeWeight().bounds(rank=16, alpha=4, weight_oi=torch.tensor([[0.25, -0.25]]))
    >>> a == b == 0.75 ** 0.5
    True
    """

    def bounds(self, rank: int, alpha: float, weight_oi: Tensor) -> tuple[float, float]:
        """sqrt(3 std sqrt(rank) / alpha), twice: each entry is a sum of rank products, each of variance bound^4 / 9.

        A weight of zeros has no size; its place is taken by 1 / sqrt(3 d_in), that of a new `torch.nn.Linear`.
        """
        std = float(weight_oi.double().std(correction=0)) or 1.0 / math.sqrt(3.0 * weight_oi.shape[1])
        bound = math.sqrt(3.0 * std * math.sqrt(rank) / alpha)
        return bound, bound


def symmetric(key: Key, num: int, d_in: int) -> Tensor:
    """`num` draws, uniform in +-1 / sqrt(d_in), in float64: Kaiming's bound for a linear layer, as LoRA takes it."""
    return uniform(key, num, 1.0 / math.sqrt(d_in))


def uniform(key: Key, num: int, bound: float) -> Tensor:
    """`num` draws, uniform in +-bound, in float64."""
    return torch.from_numpy((2.0 * key.uniform(num) - 1.0) * bound)
