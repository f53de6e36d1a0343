r"""NIST (Doddington, 2002), as the two scripts of e2e-metrics compute it.

    NIST = P sum_{n=1..5} ( sum of info over hits of order n ) / total_n
    info(w_1 .. w_n) = log2( count(w_1 .. w_{n-1}) / count(w_1 .. w_n) )
    P = exp(-beta ln^2 min(1, c / r)),     beta = ln 2 / ln^2 1.5

Counts are over all references of the whole set; that of the empty n-gram is the number of their tokens. Hits are
clipped as for BLEU. c is the length of the hypotheses, r the mean length of the references, and there the scripts
differ: the Perl script divides the tokens of all references by the mean number of references of an input, the Python
one takes the mean for each input and adds these up. With the same number of references everywhere both are the same.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fallow.evaluate.metrics.corpus import Tokens
from fallow.evaluate.metrics.ngrams import Ngram, clipped

ORDER = 5
_BETA = math.log(2) / math.log(1.5) ** 2


@dataclass(frozen=True, slots=True)
class Information:
    """How much an n-gram of the references says, in bits."""

    counts: Counter[Ngram]
    num_tokens: int
    quirk: bool
    """In Perl the text "0" is false: a bigram that begins with the token 0 has the information of its second word only,
    as if nothing stood before it."""

    def of(self, ngram: Ngram) -> float:
        """Information of an n-gram that occurs in a reference."""
        before = ngram[:-1]
        if not before or (self.quirk and before == ("0",)):
            return math.log2(self.num_tokens / self.counts[ngram])
        return math.log2(self.counts[before] / self.counts[ngram])


def information(tokens: Tokens, *, quirk: bool) -> Information:
    """From all references of a set."""
    counts: Counter[Ngram] = Counter()
    num_tokens = 0
    for group in tokens.references:
        for reference in group:
            num_tokens += len(reference)
            for order in range(1, ORDER + 1):
                counts.update(zip(*(reference[start:] for start in range(order)), strict=False))
    return Information(counts, num_tokens, quirk)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What NIST of a text depends on: the information of its hits by order, and lengths."""

    info: tuple[float, ...]
    length: int
    reference_lengths: tuple[int, ...]


def statistics(tokens: Tokens, known: Information) -> list[Statistics]:
    """The statistics of each hypothesis."""
    found = []
    for hypothesis, references in zip(tokens.hypotheses, tokens.references, strict=True):
        info = []
        for order in range(1, ORDER + 1):
            hits = clipped(hypothesis, references, order)
            info.append(sum(number * known.of(ngram) for ngram, number in hits.items()))
        found.append(Statistics(tuple(info), len(hypothesis), tuple(map(len, references))))
    return found


def mteval(parts: list[Statistics]) -> float:
    """As mteval-v13a of e2e-metrics, for a corpus."""
    tokens = sum(sum(part.reference_lengths) for part in parts)
    per_input = sum(len(part.reference_lengths) for part in parts) / len(parts)
    totals = [sum(max(0, part.length - order) for part in parts) for order in range(ORDER)]
    return _score(parts, totals, tokens / per_input)


def pymteval(parts: list[Statistics]) -> float:
    """As the Python version in e2e-metrics, for a corpus or a text.

    Differs also for texts of fewer than 5 tokens: the number of their n-grams goes below 0 here.
    """
    length = sum(sum(part.reference_lengths) / len(part.reference_lengths) for part in parts)
    return _score(parts, [sum(part.length - order for part in parts) for order in range(ORDER)], length)


def _score(parts: list[Statistics], totals: Sequence[int], reference_length: float) -> float:
    # No n-gram of an order: the Python script divides by zero here, the Perl one adds nothing.
    orders = (sum(part.info[order] for part in parts) / total for order, total in enumerate(totals) if total)
    ratio = sum(part.length for part in parts) / reference_length
    if ratio <= 0:
        return 0.0
    return sum(orders) * math.exp(-_BETA * math.log(min(1.0, ratio)) ** 2)


def segments(tokens: Tokens) -> list[float]:
    """NIST of each hypothesis as if it were a set of its own, which the segment file of e2e-metrics gives."""
    found = []
    for hypothesis, references in zip(tokens.hypotheses, tokens.references, strict=True):
        one = Tokens((hypothesis,), (references,))
        found.append(pymteval(statistics(one, information(one, quirk=False))))
    return found
