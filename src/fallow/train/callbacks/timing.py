"""How fast it went and how much memory it took, kept apart from the log because it never repeats."""

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from fallow.files import make_folder, open_own
from fallow.train.callbacks.base import Callback

if TYPE_CHECKING:
    from fallow.train.loop import Loop
    from fallow.train.records import FitResult, StepRecord


class TimingLog(Callback):
    """Appends speed and memory of the main process to a file, one JSON line for every few steps.

    A line is {"time", "step", "seconds", "tokens_per_second", "rss_bytes", "peak_rss_bytes"} and, on a GPU,
    "cuda_peak_bytes": the wall-clock time, the wall time of the steps since the line before (validation and saving not
    counted), tokens with a loss of all processes for each such second, memory of this process now and at most.

    Args:
        path: the file, usually `timing.jsonl` in the folder of the run.
        every: steps from line to line.
    """

    def __init__(self, path: Path, every: int = 10) -> None:
        self.path, self.every = Path(path), every
        self._seconds, self._tokens = 0.0, 0
        self._file: IO[str] | None = None

    def on_start(self, loop: "Loop") -> None:
        """Open the file at its end: a restart adds to what was measured before."""
        make_folder(self.path.parent)
        self._file = os.fdopen(open_own(self.path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8")

    def on_step(self, loop: "Loop", record: "StepRecord") -> None:
        """Add up; now and then a line."""
        self._seconds += record.seconds
        self._tokens += record.num_tokens
        if record.step % self.every == 0:
            self._write(loop)

    def on_stop(self, loop: "Loop", result: "FitResult") -> None:
        """The last line."""
        if self._tokens:
            self._write(loop)
        self._close()

    def on_error(self, loop: "Loop", error: BaseException) -> None:
        """Close the file."""
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """Nothing; but what was measured before a checkpoint is then on disk, as the log is."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return {}

    def _write(self, loop: "Loop") -> None:
        line = {
            "time": round(time.time(), 3),
            "step": loop.num_steps_done,
            "seconds": self._seconds,
            "tokens_per_second": self._tokens / self._seconds,
            "rss_bytes": resident_bytes(),
            "peak_rss_bytes": peak_resident_bytes(),
        }
        if loop.mesh.device.type == "cuda":
            line["cuda_peak_bytes"] = torch.cuda.max_memory_allocated(loop.mesh.device)
        assert self._file is not None
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._seconds, self._tokens = 0.0, 0

    def _close(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def resident_bytes() -> int:
    """Memory that this process holds now; where the system does not say, the most it ever held."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_resident_bytes()


def peak_resident_bytes() -> int:
    """The most memory that this process ever held; 0 on systems that do not say (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
