r"""The mean of minima that GenerationEval, and so the LoRA and DSEE papers, call TER.

    mean over h of min_r (shifts + distance) / |r|,     1 for an empty reference

Differs from tercom: the shift that lowers the distance most is made, of equal ones the one whose tokens come last in
the alphabet, whatever its length, and tokens go to the place in the reference, not to the place aligned with it; each
text weighs the same, and the best reference is the one with the lowest rate.
"""

from collections.abc import Sequence

from fallow.evaluate.metrics.corpus import Tokens
from fallow.evaluate.metrics.distance import Table
from fallow.evaluate.metrics.ter import at_least


def segments(tokens: Tokens, width: int) -> list[float]:
    """The lowest rate of each hypothesis; where it has fewer references than `width`, there is an empty one besides."""
    found = []
    for hypothesis, group in zip(tokens.hypotheses, tokens.references, strict=True):
        best = 1.0 if len(group) < width else None
        bounds = [(at_least(hypothesis, reference) / len(reference), reference) for reference in group if reference]
        for bound, reference in sorted(bounds, key=lambda pair: pair[0]):
            if best is not None and bound >= best:
                break
            rate = edits(hypothesis, reference) / len(reference)
            best = rate if best is None else min(best, rate)
        found.append(1.0 if best is None else best)
    return found


def edits(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """Shifts and remaining distance.

    >>> edits("b c a d".split(), "a b c d".split())
    1
    """
    table = Table(reference)
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
