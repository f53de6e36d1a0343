"""The win rate of one model over another, and how sure it is."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fallow.errors import UserError
from fallow.evaluate.preference.responses import Pair
from fallow.evaluate.preference.verdicts import Verdicts

_Z = 1.959963984540054
"""95% of a normal distribution lie within as many standard deviations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WinRate:
    r"""How often the judge prefers a (Xia et al., 2024, appendix E of Sheared-LLaMA).

        win_rate = 1/n sum_i (s_i,ab + s_i,ba) / 2

    over the n pairs that have a verdict in both orders; s is 1 where a is better, 0 where b is, one half for a tie. A
    judge that always prefers what it sees first gives one half.

    The interval is Wilson's score interval for n trials, with z = 1.96:

        (w + z^2 / 2n +- z sqrt(w (1 - w) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    It never has zero width, and is on the safe side here: a mean of two verdicts varies less than one win or loss.

    Differs from the paper: it gives no interval and does not say what a tie counts; both are chosen here.
    """

    win_rate: float
    low: float
    high: float
    """Ends of the 95% interval."""

    shown_first: float
    """Win rate of a over the verdicts where a was shown first."""

    shown_second: float
    """Where b was; the win rate is the mean of the two."""

    num_pairs: int
    num_judged: int
    """n: pairs with both verdicts."""

    wins: int
    """Pairs where a has more than half of the two verdicts."""

    losses: int
    ties: int
    """Pairs with half: two ties, or a win and a loss."""

    agreement: float
    """Share of the n pairs whose two verdicts name the same winner (or two ties)."""

    first_share: float
    """Share of these verdicts for the response that was shown first, ties being half: 0.5 without position bias."""

    failures: int
    """Answers of the judge that could not be understood; their pairs are not among the n."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


def win_rate(pairs: Sequence[Pair], verdicts: Verdicts) -> WinRate:
    """The win rate of a over b.

    Raises:
        UserError: no pair has a verdict in both orders.
    """
    both = [(verdicts.get(pair.key, "ab"), verdicts.get(pair.key, "ba")) for pair in pairs]
    given = [verdict for two in both for verdict in two if verdict is not None]
    failed = [verdict for verdict in given if verdict.better is None]
    scores = [
        (one.score, two.score)
        for one, two in both
        if one is not None and two is not None and one.score is not None and two.score is not None
    ]
    if not scores:
        last = f" The last one was: {failed[-1].reply[:80]!r}." if failed else ""
        raise UserError(
            f"none of {len(pairs)} pairs has two verdicts; {len(failed)} of {len(given)} answers were not understood."
            f'{last} A judge answers {{"winner": "first"}}, "second" or "tie"'
        )
    n = len(scores)
    means = [(first + second) / 2 for first, second in scores]
    rate = sum(means) / n
    low, high = interval(rate, n)
    first = sum(one for one, _ in scores) / n
    second = sum(two for _, two in scores) / n
    return WinRate(
        win_rate=rate,
        low=low,
        high=high,
        shown_first=first,
        shown_second=second,
        num_pairs=len(pairs),
        num_judged=n,
        wins=sum(mean > 0.5 for mean in means),
        losses=sum(mean < 0.5 for mean in means),
        ties=sum(mean == 0.5 for mean in means),
        agreement=sum(one == two for one, two in scores) / n,
        first_share=(first + 1 - second) / 2,
        failures=len(failed),
    )


def interval(rate: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a rate over n trials.

    >>> [round(end, 3) for end in interval(1.0, 10)]
    [0.722, 1.0]
    """
    middle, wide = rate + _Z**2 / (2 * n), _Z * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2))
    below = 1 + _Z**2 / n
    return max(0.0, (middle - wide) / below), min(1.0, (middle + wide) / below)
