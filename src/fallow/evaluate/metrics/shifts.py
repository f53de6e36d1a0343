"""The shifts of words that tercom tries, and what they do to a hypothesis."""

from collections.abc import Iterator, Sequence

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
