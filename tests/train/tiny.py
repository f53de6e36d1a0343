"""A model, a method and a stream of data that are small enough to train in a blink."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fallow.methods.base import ParamOverride
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
    Validation,
)
from fallow.train.callbacks.jsonl import JsonLog

VOCABULARY, WIDTH, CONTEXT = 31, 12, 9


class Block(nn.Module):
    """A residual layer with dropout and a sparse part: a 1-D parameter of odd length and a buffer of places."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.values = nn.Parameter(torch.randn(17) * 0.3)
        places = torch.randperm(WIDTH * WIDTH, generator=torch.Generator().manual_seed(0))[:17]
        self.register_buffer("places", places, persistent=False)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.zeros(WIDTH * WIDTH, dtype=self.values.dtype).index_put((self.places,), self.values)
        x = x + self.dropout(torch.tanh(self.linear(self.norm(x))))
        return x + F.linear(x, weight.view(WIDTH, WIDTH))


class TinyModel(nn.Module):
    """Looks at one token back; tied embedding and head."""

    def __init__(self, seed: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight
        for block in self.blocks:
            block.dropout.p = dropout

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        x = self.embedding(input_ids)
        x = x + 0.5 * F.pad(x, (0, 0, 1, 0))[:, :-1]
        for block in self.blocks:
            x = block(x)
        return SimpleNamespace(logits=self.head(x))


class Method:
    """Sparse values learn faster; matrices and sparse values decay."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def param_overrides(self, model: nn.Module) -> dict[str, ParamOverride]:
        names = [name for name, _ in model.named_parameters() if name.endswith("values")]
        return {name: ParamOverride(4.0, weight_decay=True) for name in names}

    def lr_factor(self, step: int) -> float:
        return 1.0

    def before_step(self, model: nn.Module, step: int) -> None:
        pass

    def after_step(self, model: nn.Module, step: int, optimizer: torch.optim.Optimizer) -> None:
        self.steps.append(step)


@dataclass(frozen=True)
class Batch:
    input_ids: torch.Tensor
    labels: torch.Tensor
    ids: tuple[str | int, ...]

    @property
    def num_valid(self) -> int:
        return int((self.labels != -100).sum())

    def to(self, device: Any) -> "Batch":
        return self


class Stream:
    """Sequences with a rule in them; sample i is a function of i. Some labels have no loss."""

    def __init__(self, batch: int, rank: int = 0, world: int = 1) -> None:
        self.batch, self.rank, self.world, self.position = batch, rank, world, 0
        self.epoch_length, self.tokens_per_batch = 40, batch * CONTEXT

    def next_batches(self, num_micro: int) -> list[Batch]:
        mine = list(range(self.position, self.position + self.batch))[self.rank :: self.world]
        self.position += self.batch
        size = len(mine) // num_micro
        return [sequences(mine[i * size : (i + 1) * size]) for i in range(num_micro)]

    def observe(self, metrics: dict[str, float]) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def sequences(numbers: list[int]) -> Batch:
    rows = []
    for number in numbers:
        start = torch.randint(VOCABULARY, (1,), generator=torch.Generator().manual_seed(number)).item()
        rows.append([(start + (number % 3 + 1) * t * t) % VOCABULARY for t in range(CONTEXT + 1)])
    tokens = torch.tensor(rows)
    labels = tokens[:, 1:].clone()
    for row, number in enumerate(numbers):
        labels[row, CONTEXT - number % 5 :] = -100
    return Batch(tokens[:, :-1], labels, tuple(f"s{number}" for number in numbers))


def settings(steps: int = 12, **changes: Any) -> LoopSettings:
    plain: dict[str, Any] = {
        "budget": Duration(steps=steps),
        "batch": BatchSize(sequences=8, micro=4),
        "optimizer": Optimizer(lr=0.01, clip=1.0),
        "schedule": Schedule(warmup=Duration(steps=2)),
        "validation": Validation(every=Duration(steps=4)),
        "checkpoint": Checkpointing(every=Duration(steps=3)),
    }
    return LoopSettings(**(plain | changes))


def loop(
    folder: Path,
    told: LoopSettings | None = None,
    *,
    mesh: Mesh | None = None,
    callbacks: tuple[Callback, ...] = (),
    dropout: float = 0.1,
    seed: int = 0,
    **changes: Any,
) -> Loop:
    """A loop on the tiny model, with the log that every run has and validation on eight fixed sequences."""
    told, mesh = told or settings(), mesh or Mesh()
    model = TinyModel(seed, dropout=dropout)
    stream = changes.pop("mixture", None) or Stream(told.batch.sequences, mesh.rank, mesh.world)

    def validate() -> dict[str, float]:
        batch = sequences(list(range(1000, 1008)))
        logits = model(input_ids=batch.input_ids).logits.detach()
        return {"loss": float(F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()))}

    log = (JsonLog(folder / "log.jsonl"),)
    plain: dict[str, Any] = {"validate": validate, "identity": {"lr": told.optimizer.lr}}
    return Loop(model, Method(), stream, told, mesh, folder, log + callbacks, **(plain | changes))


def weights(trained: Loop) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trained.model.named_parameters()}


class BreakAfter(Callback):
    """Breaks off after a step, as a crash would: without a word to anyone."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, loop: Loop, record: Any) -> None:
        if record.step == self.step:
            raise CrashError


class CrashError(Exception):
    pass
