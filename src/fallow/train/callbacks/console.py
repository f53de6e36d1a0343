"""Progress for someone who watches, or for a log file that nobody does."""

import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fallow.train.callbacks.base import Callback
from fallow.train.callbacks.figures import RunningMean, clock

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from fallow.train.loop import Loop
    from fallow.train.records import FitResult, StepRecord


class Console(Callback):
    """Shows step, loss, smoothed loss, rate, tokens a second and the time left, on standard error.

    A terminal gets one line that moves; anything else a plain line every few steps, one for each validation and
    checkpoint.

    Args:
        title: in front of each line, usually the name of the stage.
        every: steps from plain line to plain line; 0 for 20 lines in the whole run.
        stream: where to; standard error by default.
    """

    def __init__(
        self, title: str = "train", every: int = 0, stream: IO[str] | None = None, counts: str = "tokens"
    ) -> None:
        self.title, self.every, self.stream = title, every, stream or sys.stderr
        self.counts, self.rate = counts, "tok/s" if counts == "tokens" else f"{counts}/s"
        self._smooth = RunningMean(0.95)
        self._speed = RunningMean(0.9)
        self._pace = RunningMean(0.9)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._shown = 0.0

    def on_start(self, loop: "Loop") -> None:
        """Show where the run begins."""
        if self.every == 0:
            self.every = max(1, loop.plan.num_steps // 20)
        if self.stream.isatty():
            self._start_bar(loop)
        if loop.num_steps_done:
            self._say(f"{self.title}: continues at step {loop.num_steps_done:,} of {loop.plan.num_steps:,}")

    def on_step(self, loop: "Loop", record: "StepRecord") -> None:
        """Move on; at most ten times a second, so that it costs nothing."""
        smooth = self._smooth.add(record.loss)
        speed = self._speed.add(record.num_tokens / record.seconds)
        pace = self._pace.add(record.seconds)
        text = f"loss {record.loss:.4f} ({smooth:.4f})  lr {record.lr:.2e}  {speed:,.0f} {self.rate}"
        last = loop.plan.num_steps
        if self._bar is not None and self._task is not None:
            now = time.monotonic()
            if now - self._shown > 0.1 or record.step == last:
                self._shown = now
                self._bar.update(self._task, completed=record.step, text=text)
        elif record.step % self.every == 0 or record.step in (1, last):
            left = clock(pace * (last - record.step))
            self._say(f"{self.title}: step {record.step:,}/{last:,}  {text}  {left} left")

    def on_validate(self, loop: "Loop", metrics: dict[str, float]) -> None:
        """One line."""
        text = "  ".join(f"{name} {value:,.4f}" for name, value in metrics.items())
        mark = "  best so far" if loop.validation.best_step == loop.num_steps_done else ""
        self._say(f"{self.title}: step {loop.num_steps_done:,}  validation  {text}{mark}")

    def on_checkpoint(self, loop: "Loop", path: Path) -> None:
        """One line, where there is no bar to disturb."""
        if self._bar is None:
            self._say(f"{self.title}: saved {path}")

    def on_stop(self, loop: "Loop", result: "FitResult") -> None:
        """How it ended."""
        self._stop_bar()
        ended = {
            "budget": "done",
            "early": f"stopped early, best at step {result.best_step:,}",
            "signal": "stopped by a signal and saved; run the same command to continue",
        }
        self._say(
            f"{self.title}: {ended[result.stopped]} after {result.steps:,} steps, {result.tokens:,} {self.counts}, "
            f"{clock(result.seconds)}, {result.tokens_per_second:,.0f} {self.rate}"
        )

    def on_error(self, loop: "Loop", error: BaseException) -> None:
        """Leave the terminal as it was."""
        self._stop_bar()

    def _start_bar(self, loop: "Loop") -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
        more = (TextColumn("{task.fields[text]}"), TimeRemainingColumn())
        self._bar = Progress(*columns, *more, console=RichConsole(file=self.stream), refresh_per_second=5)
        self._task = self._bar.add_task(self.title, total=loop.plan.num_steps, completed=loop.num_steps_done, text="")
        self._bar.start()

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=self.stream, flush=True)
