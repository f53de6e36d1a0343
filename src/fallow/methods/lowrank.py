"""Low-rank training: a product of two thin factors in place of each weight; the baseline that SLTrain adds to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fallow.linear import Site, Terms, WholeWeight
from fallow.methods.base import Method
from fallow.methods.factors import check_factors, factors_of, refuse_wide
from fallow.random import Key


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRank(Method):
    r"""Pre-training with factors alone (Kamalakara et al., 2022, arXiv 2209.13569; "Low-Rank" in the tables of GaLore).

    A target weight of shape (d_out, d_in) is never stored; it is

        W = (alpha / rank) * B @ A

    with B (d_out, rank) and A (rank, d_in), both trained from the first step. The rank of W never exceeds `rank`, which
    is what keeps this baseline behind full-rank training.

    Both start uniform within one bound, such that W is as large as the weight that the layer had: as the model's own
    initialisation makes it. With B at zero, as in SLTrain, whose sparse part makes W at first, all of W would be zero,
    and no layer of a block would ever get a gradient.

    >>> from torch import nn
    >>> from fallow import convert, count
    >>> net = nn.Sequential(nn.ModuleList([nn.Linear(64, 64, bias=False)]))
    >>> _ = convert(net, LowRank(rank=8))
    >>> count(net).stored
    1024

    Differs from the paper: factors there start from the singular vectors of a dense initial weight, here from draws of
    the same size. The released code of SLTrain and GaLore has no such baseline.
    """

    name: ClassVar[str] = "lowrank"

    rank: int
    """Width of the factors. Larger fits better and costs d_out + d_in values each; about d / 4 in the papers."""

    alpha: float = 16.0
    """The product is scaled by alpha / rank. A larger scale makes the factors learn faster against everything else."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Method.__post_init__(self)
        check_factors(self.rank, self.alpha, least=1)

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """Factors alone, everywhere."""
        refuse_wide(self.rank, sites)
        return {
            name: Terms(low_rank=factors_of(site, self.rank, self.alpha, key.child(name), WholeWeight()))
            for name, site in sites.items()
        }
