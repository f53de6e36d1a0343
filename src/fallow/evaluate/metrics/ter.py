r"""Translation edit rate (Snover et al., 2006), equal to tercom 0.7.25.

    TER = sum_h min_r edits(h, r) / sum_h mean_r |r|

edits counts tokens inserted, deleted and substituted, and shifts of several tokens together at a price of 1. The fewest
edits with shifts cannot be found in reasonable time; tercom's way of searching is part of the definition, and is
reproduced: at each step the shift that saves most is made, longer ones are tried first, the first of equal ones counts,
and one that saves no more than it costs is made as well. Distances are searched in a beam of 20 edits.

Differs from tercom in speed: a reference that cannot be closer than one before is not searched.
"""

import math
from collections import Counter
from collections.abc import Sequence

from fallow.evaluate.metrics.beam import BEAM, beam_search, within_beam
from fallow.evaluate.metrics.corpus import Tokens
from fallow.evaluate.metrics.distance import Column, Table
from fallow.evaluate.metrics.path import Path, traced
from fallow.evaluate.metrics.shifts import between, candidates, perform


def segments(tokens: Tokens) -> list[tuple[int, float]]:
    """For each hypothesis the edits to its best reference and the mean length of its references."""
    found = []
    for hypothesis, group in zip(tokens.hypotheses, tokens.references, strict=True):
        length = math.fsum(map(len, group)) / len(group)
        found.append((fewest(hypothesis, group), length))
    return found


def fewest(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> int:
    """Edits to the best of several references."""
    bounds = [(at_least(hypothesis, reference), reference) for reference in references]
    best = None
    for bound, reference in sorted(bounds, key=lambda pair: pair[0]):
        if best is not None and bound >= best:
            break
        found = edits(hypothesis, reference, best)
        best = found if best is None else min(best, found)
    assert best is not None  # a corpus has a reference for each hypothesis
    return best


def at_least(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """Edits that no shift can save: tokens that one side has more often."""
    common = (Counter(hypothesis) & Counter(reference)).total()
    return max(len(hypothesis), len(reference)) - common


def edits(hypothesis: Sequence[str], reference: Sequence[str], limit: int | None = None) -> int:
    """Edits by tercom's search.

    Args:
        hypothesis: tokens.
        reference: tokens.
        limit: stop where there cannot be fewer edits than this, and return a number that is not below it.

    >>> edits("b c a d".split(), "a b c d".split())
    1
    """
    if not hypothesis or not reference:
        return max(len(hypothesis), len(reference))
    bound = at_least(hypothesis, reference)
    search = Search(reference)
    now, shifts = list(hypothesis), 0
    while True:
        columns = search.table.columns(now)
        distance = columns[-1][2]
        # Where more than the bound remains, it is one more at least: by a shift, or without.
        least = shifts + bound + (distance > bound)
        if (limit is not None and least >= limit) or bound == distance <= BEAM:
            return least
        distance, path = search.align(now, columns)
        step = search.best_shift(now, columns, distance, path) if distance > bound else None
        if step is None:
            return shifts + distance
        now, shifts = step, shifts + 1


class Search:
    """Distances to one reference, and the next shift."""

    def __init__(self, reference: Sequence[str]) -> None:
        self.reference = reference
        self.table = Table(reference)

    def align(self, tokens: Sequence[str], columns: Sequence[Column]) -> tuple[int, Path]:
        """Distance and path of tokens with these columns, as the beam finds them."""
        distance = columns[-1][2]
        path = traced(self.table, self.reference, tokens, columns)
        if distance > BEAM and not within_beam(self.table, columns, path):
            return beam_search(self.reference, tokens)
        return distance, path

    def best_shift(self, now: Sequence[str], columns: Sequence[Column], distance: int, path: Path) -> list[str] | None:
        """The tokens after the shift that tercom makes, or None when it makes none."""
        best: list[str] | None = None
        best_total = distance  # with the price of the shift
        totals: dict[tuple[int, int, int], int] = {}  # by the column where what a shift changes ends
        for length, shifts in reversed(list(enumerate(candidates(now, self.reference, *path.marks()), start=1))):
            most = 2 * length  # errors that a shift of this length can mend
            for shift in shifts:
                saved = distance - best_total
                if saved > most or (best is not None and saved == most):
                    break
                begin, changed, end = between(now, shift)
                up, down = self.table.after(changed, *columns[begin][:2])
                key = (end, up, down)
                total = totals.get(key)
                if total is None:
                    total = 1 + self.table.last(*self.table.after(now[end:], up, down), len(now))
                    totals[key] = total
                if total > BEAM and total <= best_total:
                    # The beam may find more edits, never fewer.
                    tokens = perform(now, shift)
                    total = 1 + self.align(tokens, self.table.columns(tokens))[0]
                if total < best_total or (best is None and total == best_total):
                    best, best_total = perform(now, shift), total
        return best
