"""TER of tercom and of pyter."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from fallow.metrics.corpus import Tokens
from fallow.metrics.edit_distance import BEAM, Alignment, Column, EditTable, beam_search, traced, within_beam


def pyter_segments(tokens: Tokens, width: int) -> list[float]:
    """The lowest rate of each hypothesis; where it has fewer references than `width`, there is an empty one besides."""
    found = []
    for hypothesis, group in zip(tokens.hypotheses, tokens.references, strict=True):
        best = 1.0 if len(group) < width else None
        bounds = [(at_least(hypothesis, reference) / len(reference), reference) for reference in group if reference]
        for bound, reference in sorted(bounds, key=lambda pair: pair[0]):
            if best is not None and bound >= best:
                break
            rate = pyter_edits(hypothesis, reference) / len(reference)
            best = rate if best is None else min(best, rate)
        found.append(1.0 if best is None else best)
    return found


def pyter_edits(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """Shifts and remaining distance.

    >>> pyter_edits("b c a d".split(), "a b c d".split())
    1
    """
    table = EditTable(reference)
    places: dict[str, list[int]] = {}
    for place, token in enumerate(reference):
        places.setdefault(token, []).append(place)
    now, shifts, bound = list(hypothesis), 0, at_least(hypothesis, reference)
    distance = table.distance(now, table.first)
    while distance > bound:
        best, best_tokens = distance, now
        columns = table.columns(now)
        for start, token in enumerate(now):
            for goal in places.get(token, ()):
                if goal == start:
                    continue
                length = _common(now, start, reference, goal)
                tokens = now[:start] + now[start + length :]
                tokens[goal:goal] = now[start : start + length]
                same = min(start, goal)
                found = table.distance(tokens[same:], columns[same])
                if found < best or (found == best < distance and tokens > best_tokens):
                    best, best_tokens = found, tokens
        if best == distance:
            break
        now, distance, shifts = best_tokens, best, shifts + 1
    return shifts + distance


def _common(tokens: Sequence[str], start: int, others: Sequence[str], goal: int) -> int:
    length = 0
    for token, other in zip(tokens[start:], others[goal:], strict=False):
        if token != other:
            break
        length += 1
    return length


MAX_LENGTH = 10
"""Tokens that are moved together."""


MAX_DISTANCE = 50
"""Tokens that they are moved over."""


Shift = tuple[int, int, int]
"""First and last token that move, and the token after which they are put; -1 puts them in front."""


def perform(tokens: Sequence[str], shift: Shift) -> list[str]:
    """The tokens after a shift. Places are those before it.

    >>> perform("a b c d".split(), (0, 1, 2)), perform("a b c d".split(), (2, 3, -1))
    (['c', 'a', 'b', 'd'], ['c', 'd', 'a', 'b'])
    """
    begin, changed, end = between(tokens, shift)
    return [*tokens[:begin], *changed, *tokens[end:]]


def between(tokens: Sequence[str], shift: Shift) -> tuple[int, list[str], int]:
    """What a shift changes: the first place, the tokens from there on, and the place after the last."""
    first, last, after = shift
    moved = tokens[first : last + 1]
    if after < first:
        return after + 1, [*moved, *tokens[after + 1 : first]], last + 1
    # Put after a token among those that move, they move on by as many tokens as it is after the first.
    end = min(len(tokens), (after if after > last else last + after - first) + 1)
    return first, [*tokens[last + 1 : end], *moved], end


def candidates(
    hypothesis: Sequence[str],
    reference: Sequence[str],
    aligned: Sequence[int],
    wrong_hypothesis: Sequence[bool],
    wrong_reference: Sequence[bool],
) -> list[list[Shift]]:
    """The shifts worth trying by their length less one, each in the order in which tercom tries them.

    What moves occurs in the reference as it is, holds a token that is wrong where it stands, and has a token that is
    wrong where it goes. It is put after the token aligned with the one before its place in the reference, and after
    those aligned with its own tokens there.

    Args:
        hypothesis: tokens as they stand now.
        reference: tokens.
        aligned: for each token of the reference the place in the hypothesis it is aligned with, or after which it is
            missing (-1 in front).
        wrong_hypothesis: which tokens are substituted or inserted.
        wrong_reference: which tokens are substituted or missing.
    """
    places: dict[str, list[int]] = {}
    for place, token in enumerate(reference):
        places.setdefault(token, []).append(place)
    found: list[list[Shift]] = [[] for _ in range(MAX_LENGTH)]
    for first, token in enumerate(hypothesis):
        starts = places.get(token, [])
        if not any(
            aligned[place] != first
            and aligned[place] - first <= MAX_DISTANCE
            and first - aligned[place] - 1 <= MAX_DISTANCE
            for place in starts
        ):
            continue
        wrong = False
        for last in range(first, min(len(hypothesis), first + MAX_LENGTH)):
            length = last - first
            starts = [
                place
                for place in starts
                if place + length < len(reference) and reference[place + length] == hypothesis[last]
            ]
            if not starts:
                break
            wrong = wrong or wrong_hypothesis[last]
            if not wrong:
                continue
            near = [
                place
                for place in starts
                if not first <= aligned[place] <= last and abs(aligned[place] - first) <= MAX_DISTANCE
            ]
            if not near:
                break
            seen = set()
            for place in near:
                if any(wrong_reference[place : place + length + 1]):
                    for after in _goals(first, length, place, aligned):
                        if after not in seen:
                            seen.add(after)
                            found[length].append((first, last, after))
    return found


def _goals(first: int, length: int, place: int, aligned: Sequence[int]) -> Iterator[int]:
    if place == 0:
        yield -1
    for offset in range(-1 if place else 0, length + 1):
        after = aligned[place + offset]
        if after != first and (offset == 0 or after != aligned[place]):
            yield after


def tercom_segments(tokens: Tokens) -> list[tuple[int, float]]:
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
        found = tercom_edits(hypothesis, reference, best)
        best = found if best is None else min(best, found)
    assert best is not None  # a corpus has a reference for each hypothesis
    return best


def at_least(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """Edits that no shift can save: tokens that one side has more often."""
    common = (Counter(hypothesis) & Counter(reference)).total()
    return max(len(hypothesis), len(reference)) - common


def tercom_edits(hypothesis: Sequence[str], reference: Sequence[str], limit: int | None = None) -> int:
    """Edits by tercom's search.

    Args:
        hypothesis: tokens.
        reference: tokens.
        limit: stop where there cannot be fewer edits than this, and return a number that is not below it.

    >>> tercom_edits("b c a d".split(), "a b c d".split())
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
        self.table = EditTable(reference)

    def align(self, tokens: Sequence[str], columns: Sequence[Column]) -> tuple[int, Alignment]:
        """Distance and path of tokens with these columns, as the beam finds them."""
        distance = columns[-1][2]
        path = traced(self.table, self.reference, tokens, columns)
        if distance > BEAM and not within_beam(self.table, columns, path):
            return beam_search(self.reference, tokens)
        return distance, path

    def best_shift(
        self, now: Sequence[str], columns: Sequence[Column], distance: int, path: Alignment
    ) -> list[str] | None:
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
