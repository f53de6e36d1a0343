"""BLEU (four scripts), NIST (two scripts), chrF++."""

import math
import string
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from fallow.metrics.corpus import Tokens

BLEU_ORDER = 4


@dataclass(frozen=True, slots=True)
class BleuStatistics:
    """What BLEU of a text, or by adding them up of a corpus, depends on."""

    hits: tuple[int, ...]
    totals: tuple[int, ...]
    length: int
    reference_length: int
    num_texts: int = 1


def bleu_statistics(tokens: Tokens, *, width: int = 0) -> list[BleuStatistics]:
    """The statistics of each hypothesis.

    Args:
        tokens: hypotheses and references.
        width: number of reference files. A hypothesis with fewer references has empty ones besides, of length 0, which
            may be the closest; 0 leaves them out.
    """
    found = []
    for hypothesis, references in zip(tokens.hypotheses, tokens.references, strict=True):
        hits = tuple(sum(clipped(hypothesis, references, order).values()) for order in range(1, BLEU_ORDER + 1))
        totals = tuple(max(0, len(hypothesis) - order) for order in range(BLEU_ORDER))
        lengths = [len(reference) for reference in references] + [0] * (len(references) < width)
        closest = min(lengths, key=lambda length: (abs(length - len(hypothesis)), length))
        found.append(BleuStatistics(hits, totals, len(hypothesis), closest))
    return found


def added(parts: Sequence[BleuStatistics]) -> BleuStatistics:
    """The statistics of a corpus."""
    return BleuStatistics(
        tuple(map(sum, zip(*(part.hits for part in parts), strict=True))),
        tuple(map(sum, zip(*(part.totals for part in parts), strict=True))),
        sum(part.length for part in parts),
        sum(part.reference_length for part in parts),
        sum(part.num_texts for part in parts),
    )


def multi_bleu(counts: BleuStatistics) -> float:
    """As multi-bleu.perl: 0 where an order has no hit."""
    if not all(counts.hits):
        return 0.0
    penalty = min(0.0, 1 - counts.reference_length / counts.length)
    return math.exp(penalty + _mean_log(counts.hits, counts.totals))


def bleu_mteval(counts: BleuStatistics) -> float:
    """As mteval-v13a: the k-th order without a hit counts as 2^-k hits, an order longer than all texts as p_n = 1."""
    if not counts.length:
        return 0.0
    smoothed, halvings = [], 0
    for hits, total in zip(counts.hits, counts.totals, strict=True):
        halvings += total > 0 and hits == 0
        smoothed.append(1.0 if total == 0 else hits or 0.5**halvings)
    penalty = min(0.0, 1 - counts.reference_length / counts.length)
    return math.exp(penalty) * math.exp(_mean_log(smoothed, [max(1, total) for total in counts.totals]))


def nltk(parts: Sequence[BleuStatistics]) -> float:
    """As NLTK's corpus_bleu with smoothing method 3: the k-th order without a hit counts as 2^-k hits.

    Differs from mteval-v13a for texts shorter than an order, which count as one n-gram that misses, and where no token
    is right, which is 0.
    """
    counts = added(parts)
    if not counts.hits[0]:
        return 0.0
    totals = [sum(max(1, part.totals[order]) for part in parts) for order in range(BLEU_ORDER)]
    smoothed, halvings = [], 0
    for hits in counts.hits:
        halvings += hits == 0
        smoothed.append(hits or 0.5**halvings)
    penalty = min(0.0, 1 - counts.reference_length / counts.length)
    return math.exp(penalty + _mean_log(smoothed, totals))


def bleu_pymteval(counts: BleuStatistics, smoothing: float = 0.0) -> float:
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
    totals = [max(counts.length - order * counts.num_texts + smoothing, 1e-9) for order in range(BLEU_ORDER)]
    return penalty * math.exp(_mean_log(hits, totals))


def _mean_log(hits: Sequence[float], totals: Sequence[float]) -> float:
    return sum(math.log(hit / total) for hit, total in zip(hits, totals, strict=True)) / BLEU_ORDER


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


def chrf_segments(
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


Ngram = tuple[str, ...]


def count(tokens: Sequence[str], order: int) -> Counter[Ngram]:
    """How often each n-gram of `order` tokens occurs.

    >>> count(["a", "b", "a", "b"], 2)[("a", "b")]
    2
    """
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def clipped(hypothesis: Sequence[str], references: Sequence[Sequence[str]], order: int) -> dict[Ngram, int]:
    """The n-grams of a hypothesis that a reference has, counted at most as often as in the reference with most.

    >>> clipped(["a", "a", "a", "b"], [["a", "b"], ["a", "a", "c"]], 1)
    {('a',): 2, ('b',): 1}
    """
    mine = count(hypothesis, order)
    most: dict[Ngram, int] = {}
    for reference in references:
        # What the hypothesis has not, which is most, need not be counted.
        shared = filter(mine.__contains__, zip(*(reference[start:] for start in range(order)), strict=False))
        for ngram, number in Counter(shared).items():
            if number > most.get(ngram, 0):
                most[ngram] = number
    return {ngram: min(mine[ngram], number) for ngram, number in most.items()}


NIST_ORDER = 5


_BETA = math.log(2) / math.log(1.5) ** 2


@dataclass(frozen=True, slots=True)
class NistInformation:
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


def information(tokens: Tokens, *, quirk: bool) -> NistInformation:
    """From all references of a set."""
    counts: Counter[Ngram] = Counter()
    num_tokens = 0
    for group in tokens.references:
        for reference in group:
            num_tokens += len(reference)
            for order in range(1, NIST_ORDER + 1):
                counts.update(zip(*(reference[start:] for start in range(order)), strict=False))
    return NistInformation(counts, num_tokens, quirk)


@dataclass(frozen=True, slots=True)
class NistStatistics:
    """What NIST of a text depends on: the information of its hits by order, and lengths."""

    info: tuple[float, ...]
    length: int
    reference_lengths: tuple[int, ...]


def nist_statistics(tokens: Tokens, known: NistInformation) -> list[NistStatistics]:
    """The statistics of each hypothesis."""
    found = []
    for hypothesis, references in zip(tokens.hypotheses, tokens.references, strict=True):
        info = []
        for order in range(1, NIST_ORDER + 1):
            hits = clipped(hypothesis, references, order)
            info.append(sum(number * known.of(ngram) for ngram, number in hits.items()))
        found.append(NistStatistics(tuple(info), len(hypothesis), tuple(map(len, references))))
    return found


def nist_mteval(parts: list[NistStatistics]) -> float:
    """As mteval-v13a of e2e-metrics, for a corpus."""
    tokens = sum(sum(part.reference_lengths) for part in parts)
    per_input = sum(len(part.reference_lengths) for part in parts) / len(parts)
    totals = [sum(max(0, part.length - order) for part in parts) for order in range(NIST_ORDER)]
    return _score(parts, totals, tokens / per_input)


def nist_pymteval(parts: list[NistStatistics]) -> float:
    """As the Python version in e2e-metrics, for a corpus or a text.

    Differs also for texts of fewer than 5 tokens: the number of their n-grams goes below 0 here.
    """
    length = sum(sum(part.reference_lengths) / len(part.reference_lengths) for part in parts)
    return _score(parts, [sum(part.length - order for part in parts) for order in range(NIST_ORDER)], length)


def _score(parts: list[NistStatistics], totals: Sequence[int], reference_length: float) -> float:
    # No n-gram of an order: the Python script divides by zero here, the Perl one adds nothing.
    orders = (sum(part.info[order] for part in parts) / total for order, total in enumerate(totals) if total)
    ratio = sum(part.length for part in parts) / reference_length
    if ratio <= 0:
        return 0.0
    return sum(orders) * math.exp(-_BETA * math.log(min(1.0, ratio)) ** 2)


def nist_segments(tokens: Tokens) -> list[float]:
    """NIST of each hypothesis as if it were a set of its own, which the segment file of e2e-metrics gives."""
    found = []
    for hypothesis, references in zip(tokens.hypotheses, tokens.references, strict=True):
        one = Tokens((hypothesis,), (references,))
        found.append(nist_pymteval(nist_statistics(one, information(one, quirk=False))))
    return found
