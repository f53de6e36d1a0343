"""Steps of a stage beside steps of the same model dense, on the machine at hand."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from fallow.accounting.planned import plan_model
from fallow.clock import since
from fallow.conversion import convert
from fallow.errors import UserError
from fallow.methods import method_of
from fallow.methods.base import reparam_layers
from fallow.run.configs import config_of
from fallow.run.measure import model_of, stepper
from fallow.run.paths import Summary, summary_of
from fallow.run.recipe import Recipe
from fallow.run.stage import AUTO, Stage, named_path

_WHOLE = 40_000_000
"""Parameters up to which a model is timed as it is; of a larger one, one block and two are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """A step of one stage: forward, backward and update of one micro-batch."""

    stage: str
    tokens: int
    """Of the micro-batch."""

    blocks: tuple[int, ...]
    """Of the models that were timed: the stage's own number, or 1 and 2, from which a block's time follows."""

    step_ms: float
    dense_ms: float
    speed_up: float
    """Time of the dense model over time of the stage's, the median of pairs."""

    ceiling: float
    """The same ratio in operations, with only what exists multiplied."""

    paths: Summary
    """Path and reason of each shape of layer, as in the record of a stage."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def time_steps(
    recipe: Recipe,
    *,
    only: tuple[str, ...] = (),
    pairs: int = 5,
    whole: bool = False,
    device: str = "cpu",
    say: Callable[[str], None] = lambda _: None,
) -> list[StepTime]:
    """Time a step of each stage that converts layers, in alternating pairs with the same model dense.

    A large model is timed with one block and with two: t(L) = t(1) + (L - 1) (t(2) - t(1)). On one thread processor
    time is measured, else the clock.

    Args:
        recipe: its stages, batches, optimizers and precision.
        only: these stages alone.
        pairs: steps of each model.
        whole: time the whole model, however large it is.
        device: where.
        say: is told what is timed.

    Raises:
        UserError: there is no stage that converts anything.
    """
    found, seen = [], []
    for stage in recipe.stages:
        if not stage.trains or stage.method.name == "dense" or (only and stage.name not in only):
            continue
        context = recipe.datasets[stage.dataset].context
        alike = (config_of(recipe, stage), stage.method, stage.targets, stage.path, stage.batch.micro, context)
        if alike in seen:
            continue
        seen.append(alike)
        say(f"timing {stage.name}")
        found.append(_time_stage(recipe, stage, context, pairs, whole, device))
    if not found:
        raise UserError("no stage of this recipe converts layers, so a step costs what a dense one does.")
    return found


def _time_stage(recipe: Recipe, stage: Stage, context: int, pairs: int, whole: bool, device: str) -> StepTime:
    kind = "cuda" if device.startswith("cuda") else "cpu"
    planned = plan_model(
        config_of(recipe, stage),
        stage.method,
        targets=stage.targets,
        seed=stage.seed,
        path=named_path(stage),
        device=kind,
    )
    depth = planned.sizes.num_blocks
    blocks = (depth,) if whole or depth <= 2 or planned.parameters.positions <= _WHOLE else (1, 2)
    micro, vocab, dense = stage.batch.micro, planned.sizes.vocab, method_of("dense")
    taken, paths = {}, []
    for number in blocks:
        plain, ours = (model_of(planned, number, device) for _ in range(2))
        convert(
            ours, stage.method, targets=stage.targets, seed=stage.seed, path="" if stage.path == AUTO else stage.path
        )
        paths = summary_of(reparam_layers(ours))
        steps = [
            stepper(model, stage, method, vocab, micro, context, device, recipe.precision)
            for model, method in ((plain, dense), (ours, stage.method))
        ]
        taken[number] = _pairs(steps[0], steps[1], pairs, device)
    first, *second = (taken[number] for number in blocks)
    if second:
        first = [
            tuple(one + (depth - 1) * max(two - one, 0.05 * two) for one, two in zip(a, b, strict=True))
            for a, b in zip(first, second[0], strict=True)
        ]
    flops = planned.flops(context)
    return StepTime(
        stage=stage.name,
        tokens=micro * context,
        blocks=blocks,
        step_ms=round(1000 * statistics.median(ours for _, ours in first), 2),
        dense_ms=round(1000 * statistics.median(plain for plain, _ in first), 2),
        speed_up=round(statistics.median(plain / ours for plain, ours in first), 3),
        ceiling=round(flops.training_dense / flops.training, 3),
        paths=paths,
    )


def _pairs(plain: Callable[[], None], ours: Callable[[], None], pairs: int, device: str) -> list[tuple[float, ...]]:
    """Seconds of both, each pair in the other order than the one before."""
    alone = not device.startswith("cuda") and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    plain()
    ours()
    found: list[tuple[float, ...]] = []
    for number in range(pairs):
        spent = {}
        for step in (plain, ours) if number % 2 else (ours, plain):
            begin = clock()
            step()
            spent[step] = since(begin, clock)
        found.append((spent[plain], spent[ours]))
    return found
