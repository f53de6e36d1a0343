"""What two processes make of each optimizer. Run inside `tests.train.processes`, in its process group."""

import contextlib
import math
from pathlib import Path
from typing import Any

import torch

from fallow.errors import UserError
from fallow.train import AdamW8bit, BatchSize, Checkpointing, Duration, GaLore, Mesh, NonFiniteError, Optimizer
from fallow.train.distributed import full_state_dict
from fallow.train.loop import Loop
from tests.train.tiny import BreakAfter, CrashError, loop, settings

STEPS = 5
BLOCK = 16
ODD: dict[str, Any] = {"lr": 0.01, "clip": 0.0}
"""Steps of two micro-batches on each of two processes."""

CASES: dict[str, dict[str, Any]] = {
    "together": {"optimizer": Optimizer(**ODD)},
    "per layer": {"optimizer": Optimizer(**ODD, update="per_layer")},
    "reduced once": {"optimizer": Optimizer(**ODD), "reduce": "update"},
    "per layer, reduced once": {"optimizer": Optimizer(**ODD, update="per_layer"), "reduce": "update"},
    "recomputed": {"optimizer": Optimizer(**ODD), "activations": "recompute"},
    "per layer, recomputed": {"optimizer": Optimizer(**ODD, update="per_layer"), "activations": "recompute"},
    "clipped": {"optimizer": Optimizer(lr=0.01, clip=0.05, clip_by="tensor")},
    "per layer, clipped": {"optimizer": Optimizer(lr=0.01, clip=0.05, clip_by="tensor", update="per_layer")},
    "bytes": {"optimizer": AdamW8bit(**ODD, block=BLOCK)},
    "per layer, bytes": {"optimizer": AdamW8bit(**ODD, block=BLOCK, update="per_layer")},
    "bf16": {"optimizer": AdamW8bit(**ODD, block=BLOCK, weights="bf16"), "precision": "bf16"},
}


class EveryRankBreak(BreakAfter):
    every_rank = True


def made(folder: Path, name: str, mesh: Mesh, *callbacks: Any, steps: int = STEPS, **changes: Any) -> Loop:
    """A loop without dropout, in which even tiny parameters have 8-bit moments."""
    case = dict(CASES[name])
    batch = BatchSize(sequences=8, micro=2, reduce=case.pop("reduce", "micro"))
    told = settings(steps, batch=batch, checkpoint=Checkpointing(every=Duration(steps=2)), **case)
    run = loop(folder / name, told, mesh=mesh, dropout=0.0, callbacks=callbacks, identity={}, **changes)
    run.optimizer.small = 0  # type: ignore[attr-defined]
    return run


def main(folder: Path, mesh: Mesh) -> dict[str, Any]:
    """Train every case; the main process writes the weights."""
    seen: dict[str, Any] = {}
    ends = {}
    for name in CASES:
        run = made(folder, name, mesh)
        run.fit()
        ends[name] = {key: value.float() for key, value in full_state_dict(run.model).items()}
    held = made(folder, "bytes", mesh)  # of a finished run: states as they were read
    held.fit()
    seen["shapes"] = {
        name: [list(value.shape), list(value.to_local().shape)]
        for name, value in held.optimizer.state[held.model.blocks[0].values].items()  # type: ignore[union-attr,index]
        if value.ndim
    }

    with contextlib.suppress(CrashError):
        made(folder / "broken", "bytes", mesh, EveryRankBreak(3)).fit()
    again = made(folder / "broken", "bytes", mesh)
    again.fit()
    same = full_state_dict(again.model)
    seen["resumed"] = all(torch.equal(same[key], value) for key, value in ends["bytes"].items())
    with contextlib.suppress(CrashError):  # for one process to continue
        made(folder / "half", "bytes", mesh, EveryRankBreak(3)).fit()

    if mesh.is_main:  # what one process began, two continue
        with contextlib.suppress(CrashError):
            made(folder / "one", "bytes", Mesh(), BreakAfter(3)).fit()
    mesh.barrier()
    taken = made(folder / "one", "bytes", mesh, seed=4)
    taken.fit()
    ends["from one"] = full_state_dict(taken.model)
    seen["from one"] = taken.method.steps  # type: ignore[attr-defined]

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * math.inf if mesh.rank == 1 and bad.num_steps_done == 2 else gradient

    bad = made(folder / "bad", "per layer", mesh)
    bad.objective = spoilt(bad.objective, spoil)
    try:
        bad.fit()
    except NonFiniteError as error:
        seen["non-finite"] = mesh.gather([error.step, "Stopped before the update" in str(error)])
    try:
        CASES["galore"] = {"optimizer": GaLore(**ODD, rank=2)}
        made(folder, "galore", mesh)
    except UserError as error:
        seen["galore"] = str(error)
    if mesh.is_main:
        torch.save(ends, folder / "ends.pt")
    return seen


def spoilt(objective: Any, change: Any) -> Any:
    """The same loss, whose value (and so whose gradient) may be spoilt on one process."""
    return lambda model, batch: change(objective(model, batch))
