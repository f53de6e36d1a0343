"""How far a long evaluation is, and how long it will take."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO

Progress = Callable[[int, int], None]
"""Called after each batch with the number of things done and of all."""

QUIET = 2.0
"""Seconds before the first line."""


@contextmanager
def shown(title: str, *, stream: IO[str] | None = None, lines: int = 10) -> Iterator[Progress]:
    """Show progress on standard error: a bar on a terminal, elsewhere a line now and then, both with the time left.

    What takes less than two seconds is not worth a line.

    Args:
        title: what is done, such as `generating texts`.
        stream: where to; standard error by default.
        lines: about how many lines a whole run gives where there is no terminal.
    """
    out = stream or sys.stderr
    if out.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(file=out), transient=True) as bar:
            task = bar.add_task(f"  {title}", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    begun = time.monotonic()
    first: list[float] = []
    said = [0.0]

    def progress(done: int, total: int) -> None:
        now = time.monotonic()
        if not first:
            first.extend((now, done))
        if now - begun < QUIET or (done < total and done < said[0] + total / lines):
            return
        said[0] = done
        left = ""
        if first[1] < done < total:  # the first call only starts the clock
            seconds = (now - first[0]) * (total - done) / (done - first[1])
            left = f", {timedelta(seconds=round(seconds))} left"
        print(f"  {title}: {done:,} of {total:,}{left}", file=out, flush=True)

    yield progress
