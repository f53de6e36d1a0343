"""Random calls of the kernels' operators, in processes of their own: a right result, or an exception."""

import contextlib
import io
from functools import partial
from pathlib import Path

from tests.attack.cases import Task
from tests.attack.child import run

CALLS = 100
"""In one process."""


def tasks(seed: int, num: int) -> list[Task]:
    """About `num` calls."""
    return [
        Task(area="kernels", name=f"calls of seed {seed + number}", weight=CALLS, work=partial(_one, seed + number))
        for number in range(-(-num // CALLS))
    ]


def _one(seed: int, scratch: Path) -> tuple[str, str]:
    done = run(partial(_calls, seed), scratch)
    if done.outcome != "accepted":
        return ("difference", done.out) if done.code == 3 else (done.outcome, done.why)
    return "held", ""


def _calls(seed: int) -> int:
    from tests.attack.kernels import run as call

    found = io.StringIO()
    with contextlib.redirect_stdout(found):
        counts = call(CALLS, seed)
    print(found.getvalue())
    return 3 if counts["wrong"] else 0
