"""Curves for TensorBoard."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.errors import UserError
from fallow.train.callbacks.base import Callback

if TYPE_CHECKING:
    from fallow.train.loop import Loop
    from fallow.train.records import FitResult, StepRecord


class TensorBoard(Callback):
    """Writes loss, rate, norm and speed by step, and each validation; after a restart the lost steps are hidden.

    Args:
        folder: for TensorBoard's files.
        every: steps from point to point.

    Raises:
        UserError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, every: int = 1) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "TensorBoard is not installed. Write pip install 'fallow[track]', or do without: log.jsonl has it all."
            ) from None
        self.folder, self.every, self._make = Path(folder), every, SummaryWriter
        self._writer: Any = None

    def on_start(self, loop: "Loop") -> None:
        """Open the file; points after the checkpoint are purged."""
        self._writer = self._make(str(self.folder), purge_step=loop.num_steps_done + 1)

    def on_step(self, loop: "Loop", record: "StepRecord") -> None:
        """One point of each curve."""
        if record.step % self.every == 0:
            self._add("train/loss", record.loss, record.step)
            self._add("train/lr", record.lr, record.step)
            self._add("train/norm", record.norm, record.step)
            self._add("speed/tokens_per_second", record.num_tokens / record.seconds, record.step)

    def on_validate(self, loop: "Loop", metrics: dict[str, float]) -> None:
        """One point of each metric."""
        for name, value in metrics.items():
            self._add(f"valid/{name}", value, loop.num_steps_done)

    def on_stop(self, loop: "Loop", result: "FitResult") -> None:
        """Close the file."""
        self._close()

    def on_error(self, loop: "Loop", error: BaseException) -> None:
        """Close the file."""
        self._close()

    def _add(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
