r"""BLEU (Papineni et al., 2002), as four official scripts compute it.

    BLEU = BP (prod_{n=1..4} p_n)^(1/4),     p_n = hits_n / total_n,     BP = min(1, exp(1 - r / c))

hits_n are the n-grams of the hypotheses that a reference has, counted at most as often as in the reference with most;
c is the length of all hypotheses, r that of the reference closest in length to each, of two the shorter. The scripts
agree on this and differ in what happens at zero, and in what an empty reference is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fallow.evaluate.metrics.corpus import Tokens
from fallow.evaluate.metrics.ngrams import clipped

ORDER = 4


@dataclass(frozen=True, slots=True)
class Statistics:
    """What BLEU of a text, or by adding them up of a corpus, depends on."""

    hits: tuple[int, ...]
    totals: tuple[int, ...]
    length: int
    reference_length: int
    num_texts: int = 1


def statistics(tokens: Tokens, *, width: int = 0) -> list[Statistics]:
    """The statistics of each hypothesis.

    Args:
        tokens: hypotheses and references.
        width: number of reference files. A hypothesis with fewer references has empty ones besides, of length 0, which
            may be the closest; 0 leaves them out.
    """
    found = []
    for hypothesis, references in zip(tokens.hypotheses, tokens.references, strict=True):
        hits = tuple(sum(clipped(hypothesis, references, order).values()) for order in range(1, ORDER + 1))
        totals = tuple(max(0, len(hypothesis) - order) for order in range(ORDER))
        lengths = [len(reference) for reference in references] + [0] * (len(references) < width)
        closest = min(lengths, key=lambda length: (abs(length - len(hypothesis)), length))
        found.append(Statistics(hits, totals, len(hypothesis), closest))
    return found


def added(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of a corpus."""
    return Statistics(
        tuple(map(sum, zip(*(part.hits for part in parts), strict=True))),
        tuple(map(sum, zip(*(part.totals for part in parts), strict=True))),
        sum(part.length for part in parts),
        sum(part.reference_length for part in parts),
        sum(part.num_texts for part in parts),
    )


def multi_bleu(counts: Statistics) -> float:
    """As multi-bleu.perl: 0 where an order has no hit."""
    if not all(counts.hits):
        return 0.0
    penalty = min(0.0, 1 - counts.reference_length / counts.length)
    return math.exp(penalty + _mean_log(counts.hits, counts.totals))


def mteval(counts: Statistics) -> float:
    """As mteval-v13a: the k-th order without a hit counts as 2^-k hits, an order longer than all texts as p_n = 1."""
    if not counts.length:
        return 0.0
    smoothed, halvings = [], 0
    for hits, total in zip(counts.hits, counts.totals, strict=True):
        halvings += total > 0 and hits == 0
        smoothed.append(1.0 if total == 0 else hits or 0.5**halvings)
    penalty = min(0.0, 1 - counts.reference_length / counts.length)
    return math.exp(penalty) * math.exp(_mean_log(smoothed, [max(1, total) for total in counts.totals]))


def nltk(parts: Sequence[Statistics]) -> float:
    """As NLTK's corpus_bleu with smoothing method 3: the k-th order without a hit counts as 2^-k hits.

    Differs from mteval-v13a for texts shorter than an order, which count as one n-gram that misses, and where no token
    is right, which is 0.
    """
    counts = added(parts)
    if not counts.hits[0]:
        return 0.0
    totals = [sum(max(1, part.totals[order]) for part in parts) for order in range(ORDER)]
    smoothed, halvings = [], 0
    for hits in counts.hits:
        halvings += hits == 0
        smoothed.append(hits or 0.5**halvings)
    penalty = min(0.0, 1 - counts.reference_length / counts.length)
    return math.exp(penalty + _mean_log(smoothed, totals))


def pymteval(counts: Statistics, smoothing: float = 0.0) -> float:
    """As the Python version in e2e-metrics: tiny numbers in place of zeros.

    Differs from mteval-v13a where an order has no hit, and for texts of fewer than 4 tokens, whose n-gram totals go
    below 0 here.

    Args:
        counts: of a text or a corpus.
        smoothing: added to hits and totals of every order; 1.0 gives the `sentBLEU` of the segment file.
    """
    penalty = 1.0
    if counts.length <= counts.reference_length:
        penalty = math.exp(1 - counts.reference_length / (counts.length or 1e-5))
    hits = [max(number + smoothing, 1e-15) for number in counts.hits]
    totals = [max(counts.length - order * counts.num_texts + smoothing, 1e-9) for order in range(ORDER)]
    return penalty * math.exp(_mean_log(hits, totals))


def _mean_log(hits: Sequence[float], totals: Sequence[float]) -> float:
    return sum(math.log(hit / total) for hit, total in zip(hits, totals, strict=True)) / ORDER
