"""Published laws of the loss of sparse models: predicted loss, the dense model it equals, the best sparsity.

N is the size of the dense shape, s the sparsity, D the number of training tokens. Loss in nats a token, of the text and
the task that the law was fitted on: compare predictions of one law with each other, not with a loss of your own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal


class SparseLaw(ABC):
    """Loss as a function of size, sparsity and tokens."""

    name: ClassVar[str]
    source: ClassVar[str]
    counts: ClassVar[Literal["linear", "all"]]
    """What N counts: matrices of the blocks, or all parameters."""

    limits: ClassVar[tuple[str, ...]]
    """What to know before believing a number."""

    most_sparse: ClassVar[float]
    sizes: ClassVar[tuple[float, float]]
    """Smallest and largest number of non-zero parameters of the fit."""

    tokens: ClassVar[tuple[float, float]]

    @abstractmethod
    def loss(self, size: float, sparsity: float, tokens: float) -> float:
        """Predicted loss of a model of `size` positions."""

    @abstractmethod
    def gain(self, sparsity: float) -> float:
        """Size of the dense model of equal loss over the number of non-zero parameters; 1 at sparsity 0."""

    def dense_share(self, sparsity: float) -> float:
        """Size of the dense model of equal loss over the size of the sparse model, zeros counted."""
        return (1 - sparsity) * self.gain(sparsity)

    def outside(self, size: float, sparsity: float, tokens: float) -> list[str]:
        """Where a model lies outside of what the law was fitted on."""
        found = []
        nonzero = size * (1 - sparsity)
        for value, (low, high), what in (
            (nonzero, self.sizes, "non-zero parameters"),
            (tokens, self.tokens, "tokens"),
        ):
            if not low <= value <= high:
                times = max(low / value, value / high)
                found.append(f"{what}: {value:.3g}, {times:.3g} times outside of the fit's {low:.2g} to {high:.2g}")
        if sparsity > self.most_sparse:
            found.append(f"sparsity {sparsity:.3g} is above the fit's largest, {self.most_sparse:g}")
        return found


@dataclass(frozen=True, slots=True)
class GradualPruning(SparseLaw):
    r"""Frantar et al. (2023, arXiv 2309.08520), their fit on T5 and C4.

        L = (a (1 - s) ** b + c) * n ** -d  +  e * t ** -f  +  g

    with n non-zero parameters in millions and t training steps in hundred thousands, a step taken as 128 sequences of
    512 tokens. Against the 48 published runs the mean error is 0.8%, the largest 2.7%.

    >>> round(GradualPruning().gain(0.75), 2), round(GradualPruning().dense_share(0.75), 2)
    (2.16, 0.54)
    """

    name = "gradual pruning"
    source = "Frantar et al., 2023, arXiv 2309.08520"
    counts = "linear"
    limits = (
        "fitted on T5 encoder-decoders and span corruption of C4: the loss itself is not that of a causal model",
        "its models were pruned gradually by magnitude, from 25% to 75% of training: a static random support is worse, "
        "so for one the prediction is a bound from below",
        "the published runs count steps; 65,536 tokens a step, T5's batch of 128 sequences of 512, is our reading",
    )
    most_sparse = 0.875
    sizes = (1.3e6, 8.5e7)
    tokens = (250e3 * 65_536, 1000e3 * 65_536)

    def loss(self, size: float, sparsity: float, tokens: float) -> float:
        """See the class."""
        millions, steps = size * (1 - sparsity) / 1e6, tokens / 65_536 / 1e5
        return float(self._capacity(sparsity) * millions**-0.2451 + 0.6336 * steps**-0.2027 + 0.6507)

    def gain(self, sparsity: float) -> float:
        """((a + c) / (a (1 - s) ** b + c)) ** (1 / d)."""
        return float((self._capacity(0.0) / self._capacity(sparsity)) ** (1 / 0.2451))

    def _capacity(self, sparsity: float) -> float:
        return float(0.5678 * (1 - sparsity) ** 0.7216 + 1.5227)


@dataclass(frozen=True, slots=True)
class DynamicSparse(SparseLaw):
    r"""When Data Is Scarce (2026, arXiv 2606.01155), the fit on one pass over the data.

        L = exp(a) (N rho) ** -alpha (rho ** eps + c (1 - rho) ** mu)  +  exp(b) D ** -alpha  +  exp(e)

    with rho = 1 - s the density. R^2 is 0.984 on 232 runs of Llama models, dense to 93.75% sparse, trained with moving
    supports.

    >>> round(DynamicSparse().gain(0.75), 2)
    1.98
    """

    name = "dynamic sparse training"
    source = "When Data Is Scarce, 2026, arXiv 2606.01155"
    counts = "all"
    limits = (
        "fitted on Llama models and C4: compare losses of this law with each other only",
        "its supports moved during training (pruned and regrown): a static support is probably worse",
        "fitted on one pass over the data; repeated data is not covered",
    )
    most_sparse = 0.9375
    sizes = (1.7e6, 2.0e9)
    tokens = (1e8, 1.78e11)

    def loss(self, size: float, sparsity: float, tokens: float) -> float:
        """See the class."""
        nonzero = size * (1 - sparsity)
        capacity = math.exp(5.2407) * nonzero**-0.3268 * self._factor(sparsity)
        return float(capacity + math.exp(6.1030) * tokens**-0.3268 + math.exp(0.8536))

    def gain(self, sparsity: float) -> float:
        """(rho ** eps + c (1 - rho) ** mu) ** (-1 / alpha)."""
        return float(self._factor(sparsity) ** (-1 / 0.3268))

    def _factor(self, sparsity: float) -> float:
        density = 1 - sparsity
        return float(density**-0.0097 - 0.2729 * sparsity**0.8466)


LAWS: tuple[SparseLaw, ...] = (GradualPruning(), DynamicSparse())
"""The published laws."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The sparsity with the lowest predicted loss for a budget of operations."""

    sparsity: float
    tokens: float
    loss: float


def best_sparsity(law: SparseLaw, size: float, flops: float, flops_per_token: Callable[[float], float]) -> Best:
    """The sparsity at which this shape and this many operations give the lowest predicted loss.

    A sparser model needs fewer operations a token, so it sees more tokens. That is a saving only where zeros are
    skipped: on hardware or a path that multiplies by them, time and not operations is what runs out.

    Args:
        law: one of `LAWS`.
        size: positions of the model, as the law counts them.
        flops: the budget for training.
        flops_per_token: training operations a token at a sparsity.
    """

    def at(sparsity: float) -> Best:
        tokens = flops / flops_per_token(sparsity)
        return Best(sparsity=sparsity, tokens=tokens, loss=law.loss(size, sparsity, tokens))

    low, high = 0.0, law.most_sparse
    for _ in range(6):
        step = (high - low) / 40
        middle = min((at(low + i * step) for i in range(41)), key=lambda one: one.loss).sparsity
        low, high = max(0.0, middle - step), min(law.most_sparse, middle + step)
    return at(middle)
