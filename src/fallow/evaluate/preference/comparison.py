"""Every pair before the judge, in both orders."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from fallow.evaluate.preference.judge import Judge, Winner, verdict_of
from fallow.evaluate.preference.responses import Pair
from fallow.evaluate.preference.verdicts import Better, Order, Verdict, Verdicts
from fallow.evaluate.progress import Progress

_BETTER: dict[Order, dict[Winner, Better]] = {
    "ab": {"first": "a", "second": "b", "tie": "tie"},
    "ba": {"first": "b", "second": "a", "tie": "tie"},
}


@dataclass(slots=True)
class _Open:
    """A question that has no verdict yet."""

    pair: Pair
    order: Order
    tries: int = 0

    @property
    def id(self) -> str:
        return f"{self.pair.key}/{self.order}"

    def words(self) -> dict[str, str]:
        """What the judge is asked. It is not told which model is which."""
        first, second = (self.pair.a, self.pair.b) if self.order == "ab" else (self.pair.b, self.pair.a)
        return {"id": self.id, "instruction": self.pair.instruction, "first": first, "second": second}


def compare(
    pairs: Sequence[Pair],
    judge: Judge,
    verdicts: Verdicts,
    *,
    retries: int = 0,
    ahead: int = 1,
    progress: Progress | None = None,
) -> None:
    """Ask the judge for what is not in `verdicts` yet, and write it down.

    Args:
        pairs: what is compared.
        judge: see `Judge`.
        verdicts: those of an earlier attempt are not asked for again.
        retries: how often an answer that is not understood is asked for again. Then it is counted as a failure.
        ahead: questions that may be open at once, for a judge that works on several; it has to answer with ids then.
        progress: called with the number of verdicts and of all.

    Raises:
        UserError: the judge has ended, or says nothing for too long; what it said until then is kept.
    """
    orders: tuple[Order, Order] = ("ab", "ba")
    waiting = deque(_Open(pair, o) for pair in pairs for o in orders if verdicts.get(pair.key, o) is None)
    asked: dict[str, _Open] = {}
    if progress is not None:
        progress(len(verdicts), 2 * len(pairs))
    while waiting or asked:
        while waiting and len(asked) < ahead:
            question = waiting.popleft()
            asked[question.id] = question
            judge.ask(question.words())
        line = judge.hear()
        key, winner = verdict_of(line)
        if key not in asked:
            key, winner = next(iter(asked)), winner if key is None else None
        question = asked.pop(key)
        if winner is None and question.tries < retries:
            question.tries += 1
            waiting.appendleft(question)
            continue
        better = None if winner is None else _BETTER[question.order][winner]
        verdicts.add(Verdict(question.pair.key, question.order, better, line))
        if progress is not None:
            progress(len(verdicts), 2 * len(pairs))
