"""What methods with a low-rank term share: the checks of a rank and its scale."""

import itertools
from collections.abc import Mapping

from fallow.errors import UserError
from fallow.linear import FactorStart, LowRank, Site
from fallow.random import Key

_ENDLESS = float("inf")


def check_factors(rank: int, alpha: float, *, least: int) -> None:
    """Refuse a rank below `least` and a scale that is not above 0.

    Raises:
        UserError: names the setting and what it must be.
    """
    if rank < least:
        raise UserError(f"rank is {rank}, but it must be at least {least}")
    if not 0 < alpha < _ENDLESS:
        raise UserError(f"alpha is {alpha:g}, but it must be above 0 and finite. A usual value is 16")


def refuse_wide(rank: int, sites: Mapping[str, Site]) -> None:
    """Refuse factors that are wider than a matrix has rows or columns: more numbers, and no larger space.

    Raises:
        UserError: names the first such matrix, the largest rank that fits all, and the other way out.
    """
    narrow = [site for site in sites.values() if _least(site) < rank]
    if narrow:
        name, d_out, d_in = narrow[0].name, min(narrow[0].parts), narrow[0].shape[1]
        most = min(map(_least, sites.values()))
        raise UserError(
            f"rank is {rank}, but {name} is {d_out} x {d_in}, which has no higher rank than {min(d_out, d_in)}. "
            f"Write at most {most}, or leave {name.rpartition('.')[2]} out of targets"
        )


def _least(site: Site) -> int:
    return min(*site.parts, site.shape[1])


def factors_of(site: Site, rank: int, alpha: float, key: Key, start: FactorStart) -> LowRank:
    """The low-rank term of a site; each matrix of a fused one, such as GPT-2's QKV, has a pair of its own.

    Args:
        site: where the weight sits.
        rank: of each pair.
        alpha: of the product, divided by the rank.
        key: the site's.
        start: how both begin; `WholeWeight()` where there is no other term.
    """
    ends = list(itertools.accumulate(site.parts))
    rows = tuple(zip([0, *ends[:-1]], ends, strict=True)) if len(site.parts) > 1 else ()
    return LowRank(rank=rank, alpha=alpha, key=key.child("low_rank"), rows=rows, start=start)
