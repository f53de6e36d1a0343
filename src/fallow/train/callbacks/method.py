"""What a method has to tell of a run, beside the losses."""

from typing import TYPE_CHECKING, Any

from fallow.methods.base import Monitored
from fallow.train.callbacks.jsonl import JsonLog

if TYPE_CHECKING:
    from fallow.train.loop import Loop
    from fallow.train.records import StepRecord


class MethodLog(JsonLog):
    """Writes a line of the method's summary every few steps, if it has one.

    The file continues and is cut back as `JsonLog`'s is.

    Args:
        path: the file, usually `method.jsonl` in the folder of the run; not made for a method with nothing to tell.
        every: steps from line to line; 0 for about 50 lines in the whole run.
    """

    def __init__(self, path: Any, every: int = 0) -> None:
        super().__init__(path)
        self.every = every

    def on_start(self, loop: "Loop") -> None:
        """Open the file."""
        if not isinstance(loop.method, Monitored) or not loop.method.summary(loop.model):
            return
        self.every = self.every or max(1, loop.plan.num_steps // 50)
        super().on_start(loop)

    def on_step(self, loop: "Loop", record: "StepRecord") -> None:
        """A line now and then."""
        if (
            self._file is not None
            and isinstance(loop.method, Monitored)
            and (record.step % self.every == 0 or record.step == 1)
        ):
            self._write({"step": record.step, "tokens": record.tokens, **loop.method.summary(loop.model)})

    def on_validate(self, loop: "Loop", metrics: dict[str, float]) -> None:
        """Nothing: losses are in the other log."""
