"""The rank of B A + S against the density of S (the paper's Proposition 1)."""

import math
import statistics

import torch

from fallow.random import Key
from fallow.supports import Uniform
from studies.study import Outcome

WIDTHS = (64, 128, 256)
TIMES = (0.125, 0.25, 0.5, 1.0, 1.5, 2.0)
DRAWS = 20


def study() -> Outcome:
    """Square matrices with r = n / 4 and the supports and values of SLTrain; the density in units of log(n) / n."""
    results, rows = [], []
    for n in WIDTHS:
        for times in TIMES:
            density = times * math.log(n) / n
            ranks = [rank(n, density, draw) for draw in range(DRAWS)]
            alone = [rank(n, density, draw, factors=False) for draw in range(DRAWS)]
            share = sum(found == n for found in ranks) / DRAWS
            results.append({"n": n, "times": times, "density": density, "ranks": ranks, "sparse_alone": alone})
            middle, sparse = statistics.median(ranks) / n, statistics.median(alone) / n
            rows.append(
                [str(n), f"{times:g}", f"{density:.3f}", f"{sparse:.2f}", f"{middle:.2f}", f"{100 * share:.0f}"]
            )
    heads = ["n", "density in log(n) / n", "density", "rank of S / n", "rank of BA + S / n", "full rank (%)"]
    remark = f"r = n / 4; medians and shares of {DRAWS} draws. Ranks are numerical ones, in float64."
    return Outcome(results, heads, rows, remark)


def rank(n: int, density: float, draw: int, *, factors: bool = True) -> int:
    """Of one matrix: supports as SLTrain draws them, all values normal."""
    key = Key(draw, f"rank/{n}/{density:.6f}")
    support = Uniform().draw((n, n), density, key)
    generator = torch.Generator().manual_seed(draw)
    weight = torch.zeros(n * n, dtype=torch.float64)
    weight[support.flat()] = torch.randn(support.nnz, generator=generator, dtype=torch.float64)
    weight = weight.view(n, n)
    if factors:
        b, a = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((n, n // 4), (n // 4, n)))
        weight = weight + b @ a / math.sqrt(n)
    return int(torch.linalg.matrix_rank(weight))
