"""Tokens a second of a model on this machine, from real steps of one and of two of its blocks."""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import nn

from fallow.accounting.peak import step_memory
from fallow.accounting.planned import PlannedModel, plan_model
from fallow.accounting.sharding import Sharding
from fallow.clock import since
from fallow.conversion import convert
from fallow.data.batch import Batch
from fallow.errors import UserError
from fallow.folder import build
from fallow.methods import Method
from fallow.run.manner import manner_of
from fallow.run.stage import AUTO, Stage, named_path
from fallow.train import Mesh
from fallow.train.objective import NextToken
from fallow.train.optimizers.build import build_optimizer
from fallow.train.recompute import recompute_activations
from fallow.train.updates import updates_of

_DEPTH = "num_hidden_layers"

_ROOM = 0.8
"""Share of the free memory that a measurement may take."""


def throughput(
    planned: PlannedModel,
    stage: Stage,
    context: int,
    *,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    steps: int = 3,
    say: Callable[[str], None] = lambda _: None,
) -> float:
    """Tokens a second of one process, from forward, backward and update of models with one and with two blocks.

        t(L) = t(1) + (L - 1) (t(2) - t(1))

    The difference is one block; embeddings, head and loss are in both. Nothing is assumed about what sparsity saves:
    the blocks are converted by the stage's method and computed by its path. Random tokens, one micro-batch a step.

    Args:
        planned: the whole model.
        stage: its method, targets, optimizer and micro-batch.
        context: tokens in a sequence.
        device: where to measure.
        precision: as the recipe says.
        steps: timed steps of each model, after one to warm up; the median counts.
        say: is told what is measured.

    Raises:
        UserError: two blocks do not fit into the memory that is free here.
    """
    micro = _fitting(planned, stage, context, device, precision)
    say(f"measuring {stage.name}: {micro} x {context} tokens through one block and two")
    times = [_time(planned, stage, blocks, micro, context, device, precision, steps) for blocks in (1, 2)]
    block = max(times[1] - times[0], 0.05 * times[1])  # clocks waver; a block is never free
    return micro * context / (times[0] + (planned.sizes.num_blocks - 1) * block)


def with_blocks(config: Any, blocks: int) -> dict[str, Any]:
    """The values of a transformers configuration with another depth."""
    values: dict[str, Any] = config.to_dict()
    depth = values[key] if (key := config.attribute_map.get(_DEPTH, _DEPTH)) in values else config.num_hidden_layers
    lists = {name: value[:blocks] for name, value in values.items() if isinstance(value, list) and len(value) == depth}
    return {**values, **lists, key: blocks}


def _fitting(planned: PlannedModel, stage: Stage, context: int, device: str, precision: Literal["fp32", "bf16"]) -> int:
    """The stage's micro-batch, or the largest below it whose two blocks fit here."""
    free = _free_bytes(device)
    kind: Literal["cpu", "cuda"] = "cuda" if device.startswith("cuda") else "cpu"
    two = plan_model(
        with_blocks(planned.config, 2),
        stage.method,
        targets=stage.targets,
        seed=stage.seed,
        path=named_path(stage),
        device=kind,
    )
    needed = 0
    for micro in range(stage.batch.micro, 0, -1):
        sharding = Sharding(two, 1, precision, kind, manner_of(stage, two))
        needed = step_memory(sharding, micro=micro, context=context, accumulation=1).peak
        if needed <= _ROOM * free:
            return micro
    raise UserError(
        f"stage {stage.name} cannot be measured here: two of its blocks take {needed / 1e9:.1f} GB and "
        f"{free / 1e9:.1f} GB are free. Give --tokens-per-second instead"
    )


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info()[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        return 8_000_000_000


def _time(
    planned: PlannedModel,
    stage: Stage,
    blocks: int,
    micro: int,
    context: int,
    device: str,
    precision: Literal["fp32", "bf16"],
    steps: int,
) -> float:
    """Median seconds of a step."""
    model = model_of(planned, blocks, device)
    convert(model, stage.method, targets=stage.targets, seed=stage.seed, path="" if stage.path == AUTO else stage.path)
    step = stepper(model, stage, stage.method, planned.sizes.vocab, micro, context, device, precision)
    taken = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        step()
        taken.append(since(begin))
    return statistics.median(taken[1:])


def model_of(planned: PlannedModel, blocks: int, device: str) -> nn.Module:
    """A stock model with fresh weights and so many blocks."""
    torch.manual_seed(0)
    model = build(with_blocks(planned.config, blocks))
    return model.to(device, next(planned.model.parameters()).dtype)


def stepper(
    model: nn.Module,
    stage: Stage,
    method: Method,
    vocab: int,
    micro: int,
    context: int,
    device: str,
    precision: Literal["fp32", "bf16"],
) -> Callable[[], None]:
    """A whole step of training on random tokens: forward, backward and update of one micro-batch."""
    model.train()
    if stage.activations == "recompute":
        recompute_activations(model)
    optimizer = build_optimizer(model, method, stage.update)
    updates = updates_of(model, optimizer, stage.update, Mesh(device=device))
    tokens = torch.randint(vocab, (micro, context + 1), device=device)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], ids=tuple(range(micro)))
    objective = NextToken()

    def step() -> None:
        updates.begin(stage.update.lr)
        with torch.autocast(device, dtype=torch.bfloat16) if precision == "bf16" else nullcontext():
            loss = objective(model, batch)
        updates.see(loss, last=True)
        torch.autograd.backward(loss)
        updates.finish(float(updates.norm()))
        optimizer.zero_grad(set_to_none=True)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return step
