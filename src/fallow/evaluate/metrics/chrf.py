r"""chrF++ (Popovic, 2017) as GenerationEval computes it.

    chrF++ = 1/8 sum over character 1- to 6-grams and word 1- and 2-grams of F_n
    F_n = (1 + beta^2) P_n R_n / (beta^2 P_n + R_n),     beta = 2

Blanks are no characters. A punctuation mark at the end of a word, else at its beginning, is a word of its own. Of
several references the one with the highest score of the text counts; n-grams are added up over all texts and give one
F_n.
"""

import string
from collections import Counter
from collections.abc import Hashable, Sequence

CHARACTERS, WORDS = 6, 2
_BETA_2 = 2.0**2
_TINY = 1e-16
_PUNCTUATION = frozenset(string.punctuation)

_SLICES: dict[int, list[slice]] = {n: [] for n in range(1, CHARACTERS + 1)}
"""Made once and as far as a text was long: cutting with them is the fastest way to n-grams of characters."""

Counts = tuple[int, int, int]
"""N-grams of one order: common, of the reference, of the hypothesis."""


def words(text: str) -> list[str]:
    """Words and punctuation marks.

    >>> words("(yes) it is, (so")
    ['(yes', ')', 'it', 'is', ',', '(', 'so']
    """
    found = []
    for word in text.split():
        if len(word) > 1 and word[-1] in _PUNCTUATION:
            found += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in _PUNCTUATION:
            found += [word[0], word[1:]]
        else:
            found.append(word)
    return found


def segments(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[list[float], list[tuple[Counts, ...]]]:
    """The score of each text, and the counts of the reference that gave it."""
    scores, kept = [], []
    known: dict[str, list[list[Hashable]]] = {}
    for hypothesis, group in zip(hypotheses, references, strict=True):
        mine = [Counter(order) for order in _orders(hypothesis)]
        totals = [order.total() for order in mine]
        best, best_counts = -1.0, tuple[Counts, ...]()
        for reference in group:
            if reference not in known:
                known[reference] = _orders(reference)
            found = []
            for own, total, others in zip(mine, totals, known[reference], strict=True):
                # What the hypothesis has not, which is most, need not be counted.
                shared = Counter(filter(own.__contains__, others))
                common = sum(map(min, map(own.__getitem__, shared), shared.values()))
                # Where a reference is shorter than the order, those of the hypothesis are not counted either.
                found.append((common, len(others), total if others else 0))
            value = sum(_f(*numbers) for numbers in found if numbers[0]) / len(found)
            if value > best:
                best, best_counts = value, tuple(found)
        scores.append(best)
        kept.append(best_counts)
    return scores, kept


def corpus(kept: Sequence[tuple[Counts, ...]]) -> float:
    """The score of all texts together."""
    orders = [[sum(numbers) for numbers in zip(*order, strict=True)] for order in zip(*kept, strict=True)]
    return sum(_f(*order) for order in orders) / len(orders)


def _f(common: int, reference: int, hypothesis: int) -> float:
    precision = common / hypothesis if hypothesis else _TINY
    recall = common / reference if reference else _TINY
    divisor = _BETA_2 * precision + recall
    return (1 + _BETA_2) * precision * recall / divisor if divisor else _TINY


def _orders(text: str) -> list[list[Hashable]]:
    characters, tokens = text.strip().replace(" ", ""), words(text)
    found: list[list[Hashable]] = []
    for n in range(1, CHARACTERS + 1):
        places = _SLICES[n]
        places += [slice(start, start + n) for start in range(len(places), len(characters))]
        found.append(list(map(characters.__getitem__, places[: max(0, len(characters) - n + 1)])))
    return found + [list(zip(*(tokens[k:] for k in range(n)), strict=False)) for n in range(1, WORDS + 1)]
