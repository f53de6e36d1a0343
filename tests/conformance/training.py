"""Training a tiny converted model, for the rows of the table; run by torchrun it writes what two processes came to."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fallow
from fallow.data.batch import Batch, collate
from fallow.data.mixture import Mixture
from fallow.methods import method_of
from fallow.methods.base import reparam_layers
from fallow.train import (
    BatchSize,
    Callback,
    Checkpointing,
    Duration,
    Loop,
    LoopSettings,
    Mesh,
    Optimizer,
    Schedule,
    full_state_dict,
)
from fallow.train.callbacks import JsonLog
from tests.conformance.families import VOCABULARY, tiny
from tests.conformance.sheared import shear, write_text
from tests.conformance.table import TRAINED, Row

STEPS = 20


class Sequences:
    """Rows of tokens with a pattern to learn."""

    context, mean_length, fingerprint = 12, 12.0, "pattern"

    def __len__(self) -> int:
        return 48

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        tokens = (np.arange(13, dtype=np.int64) * (index % 5 + 1) + index) % (VOCABULARY - 2) + 2
        return tokens[:-1], tokens[1:]

    def collate(self, samples: Any, ids: Any = ()) -> Batch:
        return collate(samples, list(range(len(samples))))


class Crash(Callback):
    """Breaks off after a step, on every process."""

    every_rank = True

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, loop: Any, record: Any) -> None:
        if record.step == self.step:
            raise InterruptedError


def build(row: Row) -> nn.Module:
    """GPT-2: fused QKV, Conv1D, tied head."""
    model = tiny("gpt2")
    fallow.convert(model, row.method, seed=3, **row.settings)
    return model


def loop(row: Row, folder: Path, mesh: Mesh, *, crash: int = 0, micro: int = 4, **optimizer: Any) -> Loop:
    """A loop on a fresh model; `optimizer` changes its settings."""
    settings = LoopSettings(
        budget=Duration(steps=STEPS),
        batch=BatchSize(sequences=8, micro=micro),
        optimizer=Optimizer(lr=row.rate, **optimizer),
        schedule=Schedule(warmup=Duration(steps=2)),
        checkpoint=Checkpointing(every=Duration(steps=4)),
    )
    mixture = Mixture([("pattern", Sequences(), 1.0)], seed=0, batch=8, rank=mesh.rank, world=mesh.world)
    callbacks = [JsonLog(folder / "log.jsonl"), *([Crash(crash)] if crash else [])]
    return Loop(build(row), method_of(row.method, **row.settings), mixture, settings, mesh, folder, callbacks)


def losses(folder: Path) -> list[float]:
    """The training losses of a log."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def rates(folder: Path) -> list[float]:
    """The rate of every update in a log."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["lr"] for line in lines if "loss" in line]


def support_digests(model: nn.Module) -> dict[str, str]:
    """The checksum of every support."""
    return {n: layer.support.digest() for n, layer in reparam_layers(model).items() if layer.support is not None}


def main(folder: Path) -> None:
    mesh = Mesh.start("cpu")
    seen: dict[str, Any] = {}
    for number, (name, row) in enumerate(TRAINED.items()):
        at = folder / str(number)
        torch.manual_seed(100 + mesh.rank)  # supports and factors must not follow the global generator
        straight = loop(row, at / "two", mesh)
        digests = mesh.gather(support_digests(straight.model))
        straight.fit()
        with contextlib.suppress(InterruptedError):
            loop(row, at / "broken", mesh, crash=10).fit()
        again = loop(row, at / "broken", mesh)
        again.fit()
        first, second = full_state_dict(straight.model), full_state_dict(again.model)
        seen[name] = {
            "equal supports": all(digest == digests[0] for digest in digests),
            "resumed bit-identical": all(torch.equal(first[key], second[key]) for key in first),
        }
    if mesh.is_main:
        (folder / "seen.json").write_text(json.dumps(seen))
    mesh.barrier()
    if mesh.is_main:
        write_text(folder)
    mesh.barrier()
    shear(folder, "sheared")  # leaves the group


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
