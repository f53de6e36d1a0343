"""SLTrain: every target weight is a low-rank matrix plus a sparse one on a fixed random support."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from fallow.errors import UserError
from fallow.linear import Base, Chosen, Drawn, NoProduct, Site, Terms, WholeWeight, Zeros
from fallow.linear import Sparse as SparseTerm
from fallow.methods.base import Method
from fallow.methods.factors import check_factors, factors_of, refuse_wide
from fallow.methods.released_draw import released_terms
from fallow.random import Key
from fallow.supports import NofM, kind_of

_ALPHA = 16.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SLTrain(Method):
    r"""Sparse plus low-rank pre-training (Han et al., NeurIPS 2024, arXiv 2406.02214).

    A target weight of shape (d_out, d_in) is never stored; it is the sum

        W = (alpha / rank) * B @ A + scatter(values, support)

    with B (d_out, rank), A (rank, d_in) and nnz = round(density * d_out * d_in) values on a support that is drawn once,
    uniformly without replacement. The factors alone would bound the rank of W by `rank`; with a density of order
    log(n) / n the sum has full rank almost surely (Proposition 1). All three are trained from the first step.

    At the start A and the values are uniform in +-1 / sqrt(d_in) and B is zero, so the model begins with W = S. With
    density 0 it begins as method `lowrank` does.

    >>> from torch import nn
    >>> from fallow import convert, count
    >>> net = nn.Sequential(nn.ModuleList([nn.Linear(512, 512, bias=False)]))
    >>> _ = convert(net, SLTrain(rank=128, density=0.03))
    >>> count(net).stored  # 128 * (512 + 512) + round(0.03 * 512 * 512)
    138936

    Differs from the paper: nothing with the default settings. Differs from the released code: draws come from (seed,
    module name), not from the global generator, so they are the same on every process, and nnz is rounded, not cut off
    (`preset: released` repeats its draws and counts); alpha / rank is applied to the product and never to a stored copy
    of A (which cost 2.33 GB at 7B); supports take 2 bytes an entry instead of 8, and none on disk; rank 0 and density 0
    are allowed; there is no trainable scale and no dropout.
    """

    name: ClassVar[str] = "sltrain"

    rank: int
    """Width of the factors. Larger fits better and costs d_out + d_in values each; about d / 4 in the paper. 0: a
    sparse part alone."""

    density: float = 0.03
    """Share of the entries in the sparse part: 0.03 up to 1B and 0.05 at 7B in the paper; with 0.1 it comes close to
    full rank. 0: factors alone."""

    alpha: float = _ALPHA
    """The low-rank part is scaled by alpha / rank. The paper's choice falls with size: 32 at 60M, 16 at 130M and 350M,
    8 at 1B and 7B. Without effect when rank is 0."""

    support: str = "uniform"
    """Kind of support: uniform (the paper), vector:HEIGHT, block:SIZE or n:m; the latter suit fast kernels. `given` is
    for imported weights, whose supports are kept with them."""

    draw: int = 0
    """Which of the supports of a seed, from 0: another number changes the supports and how their values begin, and
    nothing else. The paper's five random supports (Fig. 4) are five draws."""

    base: Literal["none", "frozen"] = "none"
    """`none` trains from scratch (the paper). `frozen` keeps the weight that the layer had, untrained, and adds both
    parts to it, the values starting at zero: sparse plus low-rank fine-tuning; with rank 0, sparse fine-tuning."""

    preset: Literal["paper", "released"] = "paper"
    """How supports and starts are drawn. `paper`: from seed and layer name. `released`: as the released code does in
    fp32 on a CPU after `torch.manual_seed(seed)`, layer after layer from one generator, for comparing the two. Its
    script draws the dense weights first; `fallow.methods.released_draw` takes a generator in any state."""

    def __post_init__(self) -> None:
        """Check the ranges, and that nothing is without effect."""
        Method.__post_init__(self)
        check_factors(self.rank, self.alpha, least=0)
        if not 0.0 <= self.density <= 1.0:
            hint = f". Did you mean {self.density / 100:g}?" if 1.0 < self.density <= 100.0 else ""
            raise UserError(f"density is {self.density:g}, but it must be at least 0 and at most 1{hint}")
        if not self.rank and not self.density:
            raise UserError("rank and density are both 0, which leaves no weight. Write a rank, or density: 0.03")
        if not self.rank and self.alpha != _ALPHA:
            raise UserError(f"alpha is {self.alpha:g}, which has no effect with rank 0. Remove it")
        if self.draw < 0:
            raise UserError(f"draw is {self.draw}, but it must be at least 0")
        if self.preset == "released":
            self._check_released()
        if self.draw and (self.preset == "released" or self.support == "given"):
            raise UserError(f"draw is {self.draw}, which has no effect where supports are not our own draw. Remove it")
        if self.support == "given":
            self._check_given()
            return
        kind = kind_of(self.support)
        for setting, usual in (("support", "uniform"), ("draw", 0)):
            if not self.density and getattr(self, setting) != usual:
                raise UserError(f"{setting} is {getattr(self, setting)}, which has no effect with density 0. Remove it")
        if isinstance(kind, NofM) and abs(self.density - kind.n / kind.m) > 1e-9:
            raise UserError(
                f"density is {self.density:g}, but a {self.support} support has {kind.n / kind.m:g} in every layer. "
                f"Write density: {kind.n / kind.m:g}, or support: uniform"
            )

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """Factors and a sparse part, everywhere; each matrix of a fused one has its own."""
        refuse_wide(self.rank, sites)
        if self.preset == "released":
            generator = torch.Generator().manual_seed(key.seed)
            return released_terms(sites, self.rank, self.alpha, self.density, generator, key)
        return {name: self._terms(site, key.child(name)) for name, site in sites.items()}

    def _terms(self, site: Site, key: Key) -> Terms:
        kept = self.base == "frozen"
        start = NoProduct() if kept or self.density else WholeWeight()
        low_rank = factors_of(site, self.rank, self.alpha, key, start) if self.rank else None
        if self.support == "given":
            num = int(self.density * site.shape[0] * site.shape[1])
            rows = ((0, site.shape[0]),)
            chosen = Chosen(choice="given", entries=num, rank=self.rank, key=key, rows=rows, start=Drawn())
            return Terms(low_rank=low_rank, sparse=chosen)
        sparse = SparseTerm(
            kind=kind_of(self.support),
            density=self.density,
            key=key.child(f"draw/{self.draw}") if self.draw else key,
            parts=site.parts,
            start=Zeros() if kept else Drawn(),
        )
        return Terms(
            base=Base(trainable=False) if kept else None, low_rank=low_rank, sparse=sparse if self.density else None
        )

    def _check_released(self) -> None:
        """What the released code cannot do has no draw to repeat."""
        if not self.rank or not 0.0 < self.density < 1.0:
            raise UserError(
                "preset is released, whose code takes a rank of at least 1 and a density between 0 and 1 alone. Write "
                "preset: paper"
            )
        if self.support != "uniform" or self.base != "none":
            what = f"support is {self.support}" if self.support != "uniform" else f"base is {self.base}"
            raise UserError(f"{what}, which preset released does not have. Write preset: paper")

    def _check_given(self) -> None:
        if not self.density or self.base != "none":
            raise UserError("support is given, which needs a density above 0 and base: none. Write support: uniform")
