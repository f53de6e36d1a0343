"""The moments of a run at which other things may happen."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from fallow.train.loop import Loop
    from fallow.train.records import FitResult, StepRecord


class Callback:
    """Looks on while a run goes. Six moments; override those that matter.

    Callbacks see the run and leave numbers alone: what changes the training belongs to a method.
    """

    every_rank: ClassVar[bool] = False
    """Whether it is called on every process; otherwise on the main one only."""

    def on_start(self, loop: "Loop") -> None:
        """Before the first step, after a checkpoint was read."""

    def on_step(self, loop: "Loop", record: "StepRecord") -> None:
        """After each update."""

    def on_validate(self, loop: "Loop", metrics: dict[str, float]) -> None:
        """After each validation."""

    def on_checkpoint(self, loop: "Loop", path: Path) -> None:
        """After a checkpoint is safely on disk."""

    def on_stop(self, loop: "Loop", result: "FitResult") -> None:
        """At the end, also when a signal asked for it."""

    def on_error(self, loop: "Loop", error: BaseException) -> None:
        """When the run breaks off; the error is raised afterwards."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, as JSON values; taken on the main process."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Called before `on_start` with what the checkpoint kept; an empty dictionary in a new run."""
