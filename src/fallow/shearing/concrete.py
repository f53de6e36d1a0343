"""The hard concrete distribution: gates between 0 and 1 that are exactly 0 or 1 most of the time, with a gradient."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LOW, _HIGH = -0.1, 1.1
_EPS = 1e-6
_SHARPNESS = 0.8


@dataclass(frozen=True, slots=True)
class HardConcrete:
    r"""Hard concrete gates (Louizos et al., 2018, arXiv 1712.01312) with the constants of the pruning papers.

    With a parameter log alpha for each gate and u uniform in (eps, 1 - eps):

        s = sigmoid((ln u - ln(1 - u) + log alpha) / beta)
        z = clip(1.2 s - 0.1, 0, 1)
        P(z > 0) = sigmoid(log alpha - beta ln(0.1 / 1.1))
        without noise: z = sigmoid(0.8 log alpha / beta)

    log alpha is kept within +-ln 100: beyond that a gate would hardly ever come back.

    >>> gate = HardConcrete(beta=2 / 3)
    >>> round(float(gate.open(torch.tensor(HardConcrete.CEILING))), 4)
    0.998

    Differs from the paper: it says nothing of the bounds on log alpha, nor of the value without noise; both are those
    of the released code.
    """

    beta: float
    """Temperature. The paper says 0.83, the released code has two thirds. Higher makes gates softer."""

    CEILING = math.log(100.0)
    """Largest and, negated, smallest log alpha."""

    def sample(self, log_alpha: Tensor, uniform: Tensor) -> Tensor:
        """Gates from uniform numbers of [0, 1) of the same shape, or of more leading dimensions."""
        u = uniform.clamp(_EPS, 1.0 - _EPS)
        s = torch.sigmoid((torch.log(u) - torch.log1p(-u) + log_alpha) / self.beta)
        return (s * (_HIGH - _LOW) + _LOW).clamp(0.0, 1.0)

    def open(self, log_alpha: Tensor) -> Tensor:
        """The probability that a gate is not 0; differentiable."""
        shifted = log_alpha - self.beta * math.log(-_LOW / _HIGH)
        return torch.sigmoid(shifted).clamp(_EPS, 1.0 - _EPS)

    def value(self, log_alpha: Tensor) -> Tensor:
        """The gate without noise, never exactly 0 or 1."""
        return torch.sigmoid(_SHARPNESS / self.beta * log_alpha)

    @classmethod
    @torch.no_grad()
    def clamp_(cls, log_alpha: Tensor) -> None:
        """Bring log alpha back within its bounds, in place."""
        log_alpha.clamp_(-cls.CEILING, cls.CEILING)
