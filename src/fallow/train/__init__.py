"""Training: settings, the loop, checkpoints, several processes.

Settings come without torch; everything else is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fallow.train.optimizers.settings import AdamW8bit, GaLore, GaLore8bit, Optimizer
from fallow.train.settings import BatchSize, Checkpointing, Duration, LoopSettings, Schedule, Validation

if TYPE_CHECKING:
    from fallow.train.callbacks import Callback, Console, JsonLog, Signals, TensorBoard, TimingLog
    from fallow.train.distributed import Mesh, full_state_dict, shard
    from fallow.train.loop import Loop
    from fallow.train.nonfinite import NonFiniteError
    from fallow.train.objective import NextToken
    from fallow.train.records import FitResult, StepRecord

_HOMES = {
    "Callback": "callbacks",
    "Console": "callbacks",
    "FitResult": "records",
    "JsonLog": "callbacks",
    "Loop": "loop",
    "Mesh": "distributed",
    "NextToken": "objective",
    "NonFiniteError": "nonfinite",
    "Signals": "callbacks",
    "StepRecord": "records",
    "TensorBoard": "callbacks",
    "TimingLog": "callbacks",
    "full_state_dict": "distributed",
    "shard": "distributed",
}

__all__ = [
    "AdamW8bit",
    "BatchSize",
    "Callback",
    "Checkpointing",
    "Console",
    "Duration",
    "FitResult",
    "GaLore",
    "GaLore8bit",
    "JsonLog",
    "Loop",
    "LoopSettings",
    "Mesh",
    "NextToken",
    "NonFiniteError",
    "Optimizer",
    "Schedule",
    "Signals",
    "StepRecord",
    "TensorBoard",
    "TimingLog",
    "Validation",
    "full_state_dict",
    "shard",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"fallow.train.{_HOMES[name]}"), name)
