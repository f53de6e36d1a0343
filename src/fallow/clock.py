"""Time that has passed: more than nothing, though the clock stood still, so that one can divide by it."""

import time
from collections.abc import Callable

TICK = 1e-9
"""Seconds."""


def since(begin: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds from a reading of a clock to now.

    >>> since(5.0, lambda: 5.0)
    1e-09
    """
    return max(clock() - begin, TICK)
