"""The log: one JSON line a step, with nothing in it that differs between two runs of the same recipe."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fallow.errors import UserError
from fallow.files import make_folder, open_own, sync
from fallow.train.callbacks.base import Callback

if TYPE_CHECKING:
    from fallow.train.loop import Loop
    from fallow.train.records import FitResult, StepRecord

log = logging.getLogger(__name__)


class JsonLog(Callback):
    """Writes steps and validations to a file, which a resumed run cuts back to its checkpoint and continues.

    A step is {"step", "tokens", "loss", "norm", "lr"}, a validation {"step", "tokens", "valid": {...}}. So a run that
    was broken off has, in the end, the same bytes in its log as one that was not. Wall times are in `TimingLog`.

    Args:
        path: the file, usually `log.jsonl` in the folder of the run.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._position = 0
        self._digest = hashlib.sha256()
        self._file: IO[bytes] | None = None

    def on_start(self, loop: "Loop") -> None:
        """Cut the file back to what the checkpoint knows."""
        make_folder(self.path.parent)
        self._file = os.fdopen(open_own(self.path, os.O_RDWR), "r+b")
        size = self._file.seek(0, os.SEEK_END)
        if size < self._position:
            log.warning("%s is shorter than at the last checkpoint; its lost lines stay lost.", self.path)
            size = self.path.read_bytes().rfind(b"\n") + 1  # half a line would make the file unreadable
        self._file.truncate(min(size, self._position))
        self._file.seek(0)
        self._digest = hashlib.file_digest(self._file, "sha256")
        sync(self.path.parent)

    def on_step(self, loop: "Loop", record: "StepRecord") -> None:
        """One line."""
        fields = ("step", "tokens", "loss", "norm", "lr")
        self._write({name: getattr(record, name) for name in fields})

    def on_validate(self, loop: "Loop", metrics: dict[str, float]) -> None:
        """One line."""
        self._write({"step": loop.num_steps_done, "tokens": loop.tokens, "valid": metrics})

    def on_stop(self, loop: "Loop", result: "FitResult") -> None:
        """Close the file."""
        self._close()

    def on_error(self, loop: "Loop", error: BaseException) -> None:
        """Close the file."""
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """Length and checksum of the file, once all of it is on disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._position = self._file.tell()
        return {"bytes": self._position, "sha256": self._digest.hexdigest()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember where to cut, and see that what is before is what was written.

        Raises:
            UserError: it was changed.
        """
        self._position = int(state.get("bytes", 0))
        if "sha256" not in state or not self.path.is_file() or self.path.stat().st_size < self._position:
            return  # a log that was cut or deleted is told when it is opened
        with self.path.open("rb") as file:
            self._digest = hashlib.sha256(file.read(self._position))
        if self._digest.hexdigest() != state["sha256"]:
            raise UserError(
                f"{self.path} was changed or is damaged: it does not have the checksum in the checkpoint. Restore it, "
                "or delete it to go on without its lines."
            )

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        content = json.dumps(line).encode() + b"\n"
        self._file.write(content)
        self._file.flush()
        self._digest.update(content)
        if not os.fstat(self._file.fileno()).st_nlink:
            raise UserError(
                f"{self.path} was removed while it was being written. Put it back and run the same command again, "
                "which goes on from the newest checkpoint"
            )

    def _close(self) -> None:
        if self._file is not None:
            self._position = self._file.tell()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
