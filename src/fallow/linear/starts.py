"""How the values of a sparse term begin. A term holds one of these; nothing else decides it.

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


def symmetric(key: Key, num: int, d_in: int) -> Tensor:
    """`num` draws, uniform in +-1 / sqrt(d_in), in float64: Kaiming's bound for a linear layer, as LoRA takes it."""
    return torch.from_numpy((2.0 * key.uniform(num) - 1.0) / math.sqrt(d_in))
