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
from dataclasses import dataclass

from fallow.evaluate.metrics.corpus import Tokens
from fallow.evaluate.metrics.ngrams import Ngram, clipped, count

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
    """What NIST of a text depends on: information hit and n-grams by order, lengths."""

    info: tuple[float, ...]
    totals: tuple[int, ...]
    length: int
    reference_lengths: tuple[int, ...]


def statistics(tokens: Tokens, known: Information, *, signed: bool = False) -> list[Statistics]:
    """The statistics of each hypothesis; `signed` as for BLEU."""
    found = []
    for hypothesis, references in zip(tokens.hypotheses, tokens.references, strict=True):
        info, totals = [], []
        for order in range(1, ORDER + 1):
            hits = clipped(count(hypothesis, order), [count(reference, order) for reference in references])
            info.append(sum(number * known.of(ngram) for ngram, number in hits.items()))
            total = len(hypothesis) - order + 1
            totals.append(total if signed else max(0, total))
        lengths = tuple(len(reference) for reference in references)
        found.append(Statistics(tuple(info), tuple(totals), len(hypothesis), lengths))
    return found


def mteval(parts: list[Statistics]) -> float:
    """As mteval-v13a of e2e-metrics, for a corpus."""
    tokens = sum(sum(part.reference_lengths) for part in parts)
    per_input = sum(len(part.reference_lengths) for part in parts) / len(parts)
    return _score(parts, tokens / per_input)


def pymteval(parts: list[Statistics]) -> float:
    """As the Python version in e2e-metrics, for a corpus or a text."""
    return _score(parts, sum(sum(part.reference_lengths) / len(part.reference_lengths) for part in parts))


def _score(parts: list[Statistics], reference_length: float) -> float:
    total = 0.0
    for order in range(ORDER):
        ngrams = sum(part.totals[order] for part in parts)
        # No n-gram of this order: the Python script divides by zero here, the Perl one adds nothing.
        total += sum(part.info[order] for part in parts) / ngrams if ngrams else 0.0
    ratio = sum(part.length for part in parts) / reference_length
    if ratio >= 1:
        return total
    return total * math.exp(-_BETA * math.log(ratio) ** 2) if ratio > 0 else 0.0


def segments(tokens: Tokens) -> list[float]:
    """NIST of each hypothesis as if it were a set of its own, which the segment file of e2e-metrics gives."""
    found = []
    for hypothesis, references in zip(tokens.hypotheses, tokens.references, strict=True):
        one = Tokens((hypothesis,), (references,))
        found.append(pymteval(statistics(one, information(one, quirk=False), signed=True)))
    return found
