"""What two processes must agree on. Run by torchrun from test_distributed.py; the main process writes what it saw."""

import contextlib
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from fallow.errors import UserError
from fallow.train import (
    BatchSize,
    Callback,
    Duration,
    Mesh,
    NextToken,
    NonFiniteError,
    Validation,
    full_state_dict,
    shard,
)
from fallow.train.tensors import optimizer_tensors
from tests.train.optimizers.processes import main as optimizers
from tests.train.tiny import BreakAfter, CrashError, TinyModel, loop, settings

LONG = {"budget": Duration(steps=20), "batch": BatchSize(sequences=8, micro=2)}


class StopOn(Callback):
    """One process asks to stop."""

    every_rank = True

    def __init__(self, rank: int, step: int) -> None:
        self.rank, self.step = rank, step

    def on_step(self, loop: Any, record: Any) -> None:
        if loop.mesh.rank == self.rank and record.step == self.step:
            loop.request_stop()


class KeepAt(Callback):
    """Keeps the whole weights of one validation."""

    every_rank = True

    def __init__(self, step: int) -> None:
        self.step = step

    def on_validate(self, loop: Any, metrics: dict[str, float]) -> None:
        if loop.num_steps_done == self.step:
            self.kept = full_state_dict(loop.model)


class Poisoned(NextToken):
    """The loss of one sequence, which one process has at step 3, is infinite."""

    def __call__(self, model: Any, batch: Any) -> torch.Tensor:
        loss = super().__call__(model, batch)
        return loss * float("inf") if "s17" in batch.ids else loss


class EveryRankBreak(BreakAfter):
    every_rank = True


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def waited(mesh: Mesh) -> bool:
    """The main process takes longer than collectives may, as when it decodes; the other waits for its word."""
    c10d = torch.distributed.distributed_c10d
    c10d._set_pg_timeout(timedelta(seconds=0.5))
    if mesh.is_main:
        time.sleep(1.5)
    try:
        return bool(mesh.broadcast_object(mesh.is_main))
    finally:
        c10d._set_pg_timeout(timedelta(minutes=5))


def main(folder: Path) -> None:
    mesh = Mesh.start("cpu")
    seen: dict[str, Any] = {"world": mesh.world}
    seen["sum"], seen["any"] = mesh.sum(mesh.rank + 1.0), mesh.any(mesh.rank == 1)
    seen["object"] = mesh.broadcast_object({"from": mesh.rank})
    seen["gather"] = mesh.gather(mesh.rank)
    seen["waited"] = waited(mesh)

    # The same losses as one process, without dropout.
    run = loop(folder / "two", settings(**LONG), mesh=mesh, dropout=0.0)
    seen["steps"] = run.fit().steps
    seen["num_values_here"] = [p.to_local().numel() for n, p in run.model.named_parameters() if n.endswith("values")]
    seen["optimizer_names"] = sorted(optimizer_tensors(run.model, run.optimizer))[:2]
    whole = full_state_dict(run.model)

    # Interrupted = uninterrupted, with dropout.
    straight = loop(folder / "straight", settings(), mesh=mesh)
    straight.fit()
    broken = loop(folder / "broken", settings(), mesh=mesh, callbacks=(EveryRankBreak(8),))
    try:
        broken.fit()
    except CrashError:
        seen["broken_at"] = broken.num_steps_done
    again = loop(folder / "broken", settings(), mesh=mesh)
    again.fit()
    seen["started_at"] = again.method.steps[0]
    a, b = full_state_dict(straight.model), full_state_dict(again.model)
    seen["bit_identical"] = all(torch.equal(a[name], b[name]) for name in a)

    # A checkpoint that one process continues (in the test), and the end it should come to.
    half = loop(folder / "half", settings(**LONG), mesh=mesh, dropout=0.0, callbacks=(EveryRankBreak(11),))
    with contextlib.suppress(CrashError):
        half.fit()

    stopped = loop(folder / "stopped", settings(), mesh=mesh, callbacks=(StopOn(1, 5),))
    seen["stopped"] = mesh.gather([stopped.fit().stopped, stopped.num_steps_done])

    bad = loop(folder / "bad", settings(), mesh=mesh, objective=Poisoned())
    try:
        bad.fit()
    except NonFiniteError as error:
        seen["non_finite"] = mesh.gather([error.step, list(error.ids)])
    keeper = KeepAt(6)
    told = settings(validation=Validation(every=Duration(steps=2), keep="best"))
    chosen = loop(folder / "best", told, mesh=mesh, callbacks=(keeper,))
    chosen.validate = lambda: {"loss": abs(chosen.num_steps_done - 6.0)}
    result, end = chosen.fit(), full_state_dict(chosen.model)
    same = all(torch.equal(value, keeper.kept[name]) for name, value in end.items())
    seen["best"] = [result.best_step, result.validation, same]
    try:
        shard(TinyModel(seed=mesh.rank), mesh)
    except UserError as error:
        seen["different"] = str(error)
    try:
        loop(folder / "odd", settings(batch=BatchSize(sequences=6, micro=2)), mesh=mesh)
    except UserError as error:
        seen["odd_batch"] = str(error)
    seen["optimizers"] = optimizers(folder / "optimizers", mesh)
    if mesh.is_main:
        torch.save(whole, folder / "two.pt")
        (folder / "seen.json").write_text(json.dumps(seen))
    mesh.barrier()
    mesh.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
