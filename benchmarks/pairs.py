"""Two things measured in turn, so that a machine that slows down slows both."""

import statistics
from collections.abc import Callable
from typing import Any

Step = Callable[[], Any]


def alternate(dense: Step, ours: Step, seconds: Callable[[Step], float], pairs: int, digits: int) -> dict[str, Any]:
    """How many times as fast ours is: median and middle half of the ratios in alternating pairs.

    Args:
        dense: what it is compared with.
        ours: what is measured.
        seconds: how long a step takes.
        pairs: how many; the one that goes first changes from pair to pair.
        digits: to which milliseconds are rounded.
    """
    spent = {dense: 0.0, ours: 0.0}
    ratios, times = [], []
    for number in range(pairs):
        for step in (dense, ours) if number % 2 else (ours, dense):
            spent[step] = seconds(step)
        ratios.append(spent[dense] / spent[ours])
        times.append(spent[dense])
    ratios.sort()
    return {
        "speed_up": round(statistics.median(ratios), 3),
        "middle_half": [round(ratios[pairs // 4], 3), round(ratios[-1 - pairs // 4], 3)],
        "dense_ms": round(1000 * statistics.median(times), digits),
        "pairs": pairs,
    }
