r"""CIDEr as the caption evaluation that e2e-metrics uses computes it (CIDEr-D but for stemming).

    CIDEr(h) = 10 / (4 |R|) sum_{r in R} sum_{n=1..4} exp(-(l_h - l_r)^2 / (2 sigma^2))
                                                    sum_w min(g_h(w), g_r(w)) g_r(w) / (|g_h| |g_r|)
    g(w) = count(w) (ln N - ln max(1, df(w))),     sigma = 6

w runs over n-grams; N is the number of inputs and df(w) in how many of them a reference has w, so the score of a text
depends on the whole set: never average over parts of one. l is the number of bigrams of a text where the paper has its
length, an index slip that everyone keeps. The score of a corpus is the mean over its texts.
"""

import math
from collections import Counter

from fallow.evaluate.metrics.corpus import Tokens
from fallow.evaluate.metrics.ngrams import Ngram

ORDER = 4
_TWO_SIGMA_2 = 2 * 6.0**2


def segments(tokens: Tokens) -> list[float]:
    """CIDEr of each hypothesis within this set."""
    counted: dict[int, list[Counter[Ngram]]] = {}

    def counts(text: list[str]) -> list[Counter[Ngram]]:
        # Equal texts are one list, so that each is counted once.
        if id(text) not in counted:
            counted[id(text)] = [Counter(zip(*(text[k:] for k in range(n)), strict=False)) for n in range(1, ORDER + 1)]
        return counted[id(text)]

    references = [[counts(reference) for reference in group] for group in tokens.references]
    frequency: Counter[Ngram] = Counter()
    for group in references:
        frequency.update(set().union(*(orders for reference in group for orders in reference)))
    log_n = math.log(len(references))
    squared = {ngram: (log_n - math.log(number)) ** 2 for ngram, number in frequency.items()}

    def norm(counts: Counter[Ngram]) -> float:
        if counts.total() == len(counts) and counts.keys() <= squared.keys():
            return math.sqrt(sum(map(squared.__getitem__, counts)))
        return math.sqrt(sum(number**2 * squared.get(ngram, log_n**2) for ngram, number in counts.items()))

    norms: dict[int, list[float]] = {}
    scores = []
    for hypothesis, group in zip(tokens.hypotheses, references, strict=True):
        mine = counts(hypothesis)
        my_norms = [norm(order) for order in mine]
        total = 0.0
        for reference in group:
            if id(reference) not in norms:
                norms[id(reference)] = [norm(order) for order in reference]
            similarity = 0.0
            for own, other, own_norm, other_norm in zip(mine, reference, my_norms, norms[id(reference)], strict=True):
                if own_norm and other_norm:
                    shared = own.keys() & other.keys()
                    both = sum(min(own[ngram], other[ngram]) * other[ngram] * squared[ngram] for ngram in shared)
                    similarity += both / (own_norm * other_norm)
            difference = mine[1].total() - reference[1].total()
            total += similarity * math.exp(-(difference**2) / _TWO_SIGMA_2)
        scores.append(10 * total / (ORDER * len(group)))
    return scores
