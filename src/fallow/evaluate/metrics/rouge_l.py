r"""ROUGE-L as the caption evaluation that e2e-metrics uses computes it.

    P = max_r LCS(h, r) / |h|,     R = max_r LCS(h, r) / |r|,     F = (1 + beta^2) P R / (R + beta^2 P),     beta = 1.2

LCS is the length of the longest common subsequence. The score of a corpus is the mean over its texts.

Differs from Lin (2004): the highest precision and the highest recall may come from different references.
"""

from collections.abc import Sequence

from fallow.evaluate.metrics.corpus import Tokens

_BETA_2 = 1.2**2


def segments(tokens: Tokens) -> list[float]:
    """ROUGE-L of each hypothesis. A text without tokens counts as one empty token, as it does there."""
    return [
        _score(hypothesis or [""], [reference or [""] for reference in references])
        for hypothesis, references in zip(tokens.hypotheses, tokens.references, strict=True)
    ]


def _score(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    common = common_lengths(hypothesis, references)
    precision = max(common) / len(hypothesis)
    recall = max(length / len(reference) for length, reference in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA_2) * precision * recall / (recall + _BETA_2 * precision)


def common_lengths(tokens: Sequence[str], others: Sequence[Sequence[str]]) -> list[int]:
    """The length of the longest common subsequence of a text with each of others.

    A bit for each of `tokens`: a column of the usual table in one addition (Hyyroe, 2004).

    >>> common_lengths("a b c d".split(), ["a x c".split(), "d c".split()])
    [2, 1]
    """
    full = (1 << len(tokens)) - 1
    places: dict[str, int] = {}
    for place, token in enumerate(tokens):
        places[token] = places.get(token, 0) | (1 << place)
    found = []
    for other in others:
        column = full
        for token in other:
            matches = column & places.get(token, 0)
            column = ((column + matches) | (column - matches)) & full
        found.append(len(tokens) - column.bit_count())
    return found
