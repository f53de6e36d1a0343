"""How long the stages that are left will take, from the time of those that are done."""

from fallow.run.stage import Stage


class Pace:
    """Seconds for a unit of work, by data set; all of a stage counts: reading, training, validating, generating.

    >>> Pace().left([])
    0.0
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], list[float]] = {}

    def add(self, stage: Stage, seconds: float) -> None:
        """A stage is done."""
        key, work = _work(stage)
        self._seconds.setdefault(key, []).append(seconds / work)

    def left(self, stages: list[Stage]) -> float | None:
        """Seconds for these stages; None while one of them is like none before."""
        total = 0.0
        for stage in stages:
            key, work = _work(stage)
            if key not in self._seconds:
                return None
            total += work * sum(self._seconds[key]) / len(self._seconds[key])
        return total


def _work(stage: Stage) -> tuple[tuple[str, str], float]:
    budget = stage.budget
    trials = max(1, len(list(stage.trials())))
    if budget.steps:
        return (stage.dataset, "sequences"), float(trials * budget.steps * stage.batch.sequences)
    if budget.tokens:
        return (stage.dataset, "tokens"), float(trials * budget.tokens)
    if budget.epochs:
        return (stage.dataset, "epochs"), trials * budget.epochs
    return (stage.dataset, "untrained"), 1.0


def spoken(seconds: float | None) -> str:
    """A duration for people; empty when it is not known.

    >>> spoken(95.0), spoken(7200.0), spoken(None)
    (', about 2 min left', ', about 2.0 h left', '')
    """
    if seconds is None:
        return ""
    return (
        f", about {seconds / 3600:.1f} h left" if seconds >= 3600 else f", about {max(1, round(seconds / 60))} min left"
    )
