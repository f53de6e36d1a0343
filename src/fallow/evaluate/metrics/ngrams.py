"""Counting n-grams."""

from collections import Counter
from collections.abc import Sequence

Ngram = tuple[str, ...]


def count(tokens: Sequence[str], order: int) -> Counter[Ngram]:
    """How often each n-gram of `order` tokens occurs.

    >>> count(["a", "b", "a", "b"], 2)[("a", "b")]
    2
    """
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def clipped(hypothesis: Counter[Ngram], references: Sequence[Counter[Ngram]]) -> dict[Ngram, int]:
    """The n-grams of a hypothesis that a reference has, counted at most as often as in the reference with most."""
    hits = {}
    for ngram, number in hypothesis.items():
        most = max((reference[ngram] for reference in references if ngram in reference), default=0)
        if most:
            hits[ngram] = min(number, most)
    return hits
