"""Training: settings, the loop, checkpoints, several processes.

Settings come without torch; everything else is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fallow.train.settings import BatchSize, Checkpointing, Duration, LoopSettings, Optimizer, Schedule, Validation

if TYPE_CHECKING:
    from fallow.train.callbacks.base import Callback
    from fallow.train.distributed import Mesh, full_state_dict, shard
    from fallow.train.loop import Loop
    from fallow.train.nonfinite import NonFiniteError
    from fallow.train.objective import NextToken
    from fallow.train.records import FitResult, StepRecord

_HOMES = {
    "Callback": "callbacks.base",
    "FitResult": "records",
    "Loop": "loop",
    "Mesh": "distributed",
    "NextToken": "objective",
    "NonFiniteError": "nonfinite",
    "StepRecord": "records",
    "full_state_dict": "distributed",
    "shard": "distributed",
}

__all__ = [
    "BatchSize",
    "Callback",
    "Checkpointing",
    "Duration",
    "FitResult",
    "Loop",
    "LoopSettings",
    "Mesh",
    "NextToken",
    "NonFiniteError",
    "Optimizer",
    "Schedule",
    "StepRecord",
    "Validation",
    "full_state_dict",
    "shard",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"fallow.train.{_HOMES[name]}"), name)
