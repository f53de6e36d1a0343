"""Figures as people read them: smoothed, and as a clock."""


class RunningMean:
    """A mean that forgets, without the pull of its beginning.

    Args:
        keep: share of the old mean in the new one.

    >>> mean = RunningMean(0.5)
    >>> mean.add(2.0), mean.add(2.0)
    (2.0, 2.0)
    """

    def __init__(self, keep: float) -> None:
        self.keep, self._sum, self._weight = keep, 0.0, 0.0

    def add(self, value: float) -> float:
        """Take in a value; returns the mean."""
        self._sum = self.keep * self._sum + (1 - self.keep) * value
        self._weight = self.keep * self._weight + (1 - self.keep)
        return self._sum / self._weight


def clock(seconds: float) -> str:
    """A time span for people.

    >>> clock(59.6), clock(3725)
    ('1:00', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
