"""Axes: round tick values, their labels, and positions on paper."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values between `low` and `high` to positions between `start` and `end`, which may run backwards."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The position of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values, at most `most` of them.

    >>> ticks(0, 1.9e6, 5)
    [0.0, 500000.0, 1000000.0, 1500000.0]
    """
    if not low < high:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20, 50, 100):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(n * step, 12) for n in range(first, last + 1)]
    return [low, high]


def padded(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    """A little room around a range; a range of one value gets some too."""
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def short_number(value: float) -> str:
    """A large number with a letter.

    >>> [short_number(v) for v in (0, 950, 1500, 2_000_000, 2.5e9, 26e9)]
    ['0', '950', '1.5k', '2M', '2.5B', '26B']
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def tick_labels(values: list[float]) -> list[str]:
    """Labels of equal precision for the ticks of an axis.

    >>> tick_labels([2.5, 3.0, 3.5])
    ['2.5', '3.0', '3.5']
    """
    if len(values) < 2 or max(map(abs, values)) >= 1000:
        return [short_number(value) for value in values]
    digits = max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9))
    return [f"{value:.{digits}f}" for value in values]
