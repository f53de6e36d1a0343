"""The terms a weight can be made of. A method only chooses terms; the layer holds them.

W  =  base  +  (alpha / rank) B A  +  scatter(values, support)
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fallow.errors import UserError
from fallow.linear.starts import FactorStart, FromWeight, NoProduct, Start, Zeros, symmetric, uniform
from fallow.random import Key
from fallow.supports import Choice, Kind, Support, choose


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A dense matrix of shape (d_out, d_in): the weight that the layer had."""

    trainable: bool = True
    """Whether it gets a gradient and optimizer state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRank:
    """(alpha / rank) B A with B (d_out, rank) and A (rank, d_in).

    With `rows`, each range of rows gets a pair of factors of its own and the other rows get none: Q and V inside a
    fused projection, as if they were separate matrices. The pairs lie one above the other: A (pairs * rank, d_in), B
    (rows in all ranges, rank).
    """

    rank: int
    """Width of the factors; costs (d_out + d_in) values each."""

    key: Key
    """Names the random streams of A and B, so that every process draws the same."""

    alpha: float
    """Scale of the product, divided by the rank. Never folded into a stored copy of A."""

    rows: tuple[tuple[int, int], ...] = ()
    """(first, one after the last) of each range; empty for one pair of factors over all rows."""

    dropout: float = 0.0
    """Share of the inputs of A that is dropped in training, as in LoRA; the other terms see all of them."""

    start: FactorStart = NoProduct()
    """How both begin: without a product, or, where they are all of W, as a weight."""

    def __post_init__(self) -> None:
        """Check the rank."""
        if self.rank < 1:
            raise UserError(f"rank is {self.rank}, but it must be at least 1. Leave the low-rank term out instead")

    def draw(self, weight_oi: Tensor) -> tuple[Tensor, Tensor]:
        """A (total_rank, d_in) and B (num_rows, rank) in float64 for a layer whose weight (d_out, d_in) was this.

        A pure function of key and weight; most starts look at its shape alone.
        """
        (d_out, d_in), (bound_a, bound_b) = weight_oi.shape, self.start.bounds(self.rank, self.alpha, weight_oi)
        a_ri = uniform(self.key, self.total_rank * d_in, bound_a).view(self.total_rank, d_in)
        num = self.num_rows(d_out)
        if not bound_b:
            return a_ri, torch.zeros(num, self.rank, dtype=torch.float64)
        return a_ri, uniform(self.key.child("b"), num * self.rank, bound_b).view(num, self.rank)

    def draw_again(self, d_in: int, restart: int) -> Tensor:
        """Another A (total_rank, d_in), for restart number `restart`, from 1: beside a base, with B at zero."""
        key = self.key.child(f"restart/{restart}")
        return symmetric(key, self.total_rank * d_in, d_in).view(self.total_rank, d_in)

    @property
    def total_rank(self) -> int:
        """Rows of A."""
        return self.rank * max(1, len(self.rows))

    def num_rows(self, d_out: int) -> int:
        """Rows of B."""
        return sum(stop - start for start, stop in self.rows) if self.rows else d_out

    def num_entries(self, shape: tuple[int, int]) -> int:
        """Entries of both factors for a matrix of shape (d_out, d_in)."""
        return self.total_rank * shape[1] + self.rank * self.num_rows(shape[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Sparse:
    """scatter(values, support): nnz values on a fixed support.

    The support is drawn when the layer is made (and only sized on the meta device), part by part: a fused QKV
    projection has the same number of entries in Q, in K and in V, as three separate ones would.
    """

    kind: Kind
    density: float
    key: Key
    parts: tuple[int, ...]
    """Rows of each part; one number, d_out, for an ordinary layer."""

    start: Start = FromWeight()
    """How the values begin: the layer's weight at the support, fresh draws, or zero."""

    factor: ClassVar[float] = 1.0

    def num_entries(self, d_in: int) -> int:
        """How many entries the support has."""
        return sum(self.kind.num_entries((rows, d_in), self.density) for rows in self.parts)

    def draw(self, d_in: int) -> Support:
        """The support: a pure function of kind, density, key and shape."""
        if len(self.parts) == 1:
            return self.kind.draw((self.parts[0], d_in), self.density, self.key)
        return Support.stack(
            [
                self.kind.draw((rows, d_in), self.density, self.key.child(number))
                for number, rows in enumerate(self.parts)
            ]
        )

    def support(self, weight: Tensor) -> Support:
        """The support for a layer whose weight (d_out, d_in) was this: the weight does not matter."""
        return self.draw(weight.shape[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """factor * scatter(values, support): a few values on a support that is chosen by looking at the layer's weight.

    Each range of rows gets `entries` entries, so Q and V inside a fused projection get as many as two separate
    matrices. A chosen support cannot be drawn again from the seed, since the weight it was chosen from is gone or
    rounds otherwise elsewhere: it is saved wherever the values are, and given back in `given`.
    """

    choice: Choice | Literal["given"]
    """The rule; see `fallow.supports.choices.choose`. `given`: none, it comes from elsewhere."""

    entries: int
    """Entries in each range of rows."""

    rank: int
    """Of the low-rank part, for a rule that asks what low rank leaves over."""

    key: Key
    rows: tuple[tuple[int, int], ...]
    """(first, one after the last) of each range."""

    start: Start = Zeros()
    """How the values begin."""

    factor: float = 1.0
    """Scale of the values in the sum, alpha / rank where the whole update is scaled."""

    fisher: Tensor | None = field(default=None, compare=False)
    """Mean squared gradients (d_out, d_in), for the rule that goes by them."""

    given: Support | None = field(default=None, compare=False)
    """The support, when it was chosen before."""

    def num_entries(self, d_in: int) -> int:
        """How many entries the support has; one that was given may have lost some with the heads of a model."""
        return self.entries * len(self.rows) if self.given is None else self.given.nnz

    def draw(self, d_in: int) -> Support:
        """The support that was given; there is no other way to it without the weight."""
        if self.given is None:
            raise UserError(f"the support of {self.key.name} was chosen from a weight, and has to be loaded with it")
        return self.given

    def support(self, weight: Tensor) -> Support:
        """The support for a layer whose weight (d_out, d_in) was this."""
        if self.given is not None:
            return self.given
        if self.choice == "given":
            raise UserError(
                f"the support of {self.key.name.strip('/')} is given by nobody. `fallow import-sltrain` brings one "
                "along; to draw one, write support: uniform"
            )
        d_in, found = weight.shape[1], []
        for number, (first, last) in enumerate(self.rows):
            inside = choose(
                self.choice,
                weight[first:last],
                entries=self.entries,
                rank=self.rank,
                key=self.key.child(number),
                fisher=None if self.fisher is None else self.fisher[first:last],
            )
            found.append(inside + first * d_in)
        return Support.from_flat((weight.shape[0], d_in), torch.cat(found).numpy())


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a weight is the sum of; None is an absent term, and at least one must be present."""

    base: Base | None = None
    low_rank: LowRank | None = None
    sparse: Sparse | Chosen | None = None

    def __post_init__(self) -> None:
        """Refuse a weight without terms."""
        if self.base is None and self.low_rank is None and self.sparse is None:
            raise UserError("a weight needs at least one term: base, low_rank or sparse")

    @property
    def keeps_weight(self) -> bool:
        """Whether the layer's own weight is in the sum at the start: all of it, or what is on the support."""
        return self.base is not None or (
            self.low_rank is None and self.sparse is not None and isinstance(self.sparse.start, FromWeight)
        )

    def goes_on(self, other: "Terms") -> bool:
        """Whether parameters of these terms can be those of the others: equal shapes and scales.

        What is drawn or chosen at the start, and what is dropped in training, may differ.
        """
        low = [(t.low_rank.rank, t.low_rank.alpha, t.low_rank.rows) if t.low_rank else None for t in (self, other)]
        few = [
            (t.sparse.entries, t.sparse.rows, t.sparse.factor) if isinstance(t.sparse, Chosen) else t.sparse
            for t in (self, other)
        ]
        return self.base == other.base and low[0] == low[1] and few[0] == few[1]

    def with_support(self, given: Support | None, fisher: Tensor | None) -> "Terms":
        """The same terms, with what a chosen support comes from: itself, chosen before, or gradients."""
        if not isinstance(self.sparse, Chosen):
            return self
        return replace(self, sparse=replace(self.sparse, given=given, fisher=fisher))

    def unscaled(self) -> "Terms":
        """The same terms, with sparse values that start as the layer's weight is, if they start from it."""
        if not isinstance(self.sparse, Sparse) or not isinstance(self.sparse.start, FromWeight):
            return self
        return replace(self, sparse=replace(self.sparse, start=FromWeight()))
