"""CIDEr and ROUGE-L of the caption evaluation."""

import math
from collections import Counter
from collections.abc import Sequence

from fallow.metrics.corpus import Tokens
from fallow.metrics.ngram import Ngram

ORDER = 4


_TWO_SIGMA_2 = 2 * 6.0**2


def cider_segments(tokens: Tokens) -> list[float]:
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


_BETA_2 = 1.2**2


def rouge_l_segments(tokens: Tokens) -> list[float]:
    """ROUGE-L of each hypothesis. A text without tokens counts as one empty token, as it does there."""
    return [
        _score(hypothesis or [""], [reference or [""] for reference in references])
        for hypothesis, references in zip(tokens.hypotheses, tokens.references, strict=True)
    ]


def _score(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    common = common_lengths(hypothesis, references)
    precision = max(common) / len(hypothesis)
    recall = max(length / len(reference) for length, reference in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA_2) * precision * recall / (recall + _BETA_2 * precision)


def common_lengths(tokens: Sequence[str], others: Sequence[Sequence[str]]) -> list[int]:
    """The length of the longest common subsequence of a text with each of others.

    A bit for each of `tokens`: a column of the usual table in one addition (Hyyroe, 2004).

    >>> common_lengths("a b c d".split(), ["a x c".split(), "d c".split()])
    [2, 1]
    """
    full = (1 << len(tokens)) - 1
    places: dict[str, int] = {}
    for place, token in enumerate(tokens):
        places[token] = places.get(token, 0) | (1 << place)
    found = []
    for other in others:
        column = full
        for token in other:
            matches = column & places.get(token, 0)
            column = ((column + matches) | (column - matches)) & full
        found.append(len(tokens) - column.bit_count())
    return found
