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
