"""How much held-out data a stage looks at while it trains, and what that costs beside the training."""

import math
from collections.abc import Mapping

from fallow.accounting.flops import Flops
from fallow.data.batch import Dataset
from fallow.data.settings import Data, TextData
from fallow.run.stage import Stage
from fallow.train.plan import Plan

FOLLOWING = 64
"""Sequences of each domain where a mixture follows the losses: their standard error, about 0.05 nats, is far below the
gaps that steer it."""

DEAR = 0.1
"""Share of the training's computing above which a validation is worth a remark."""


def batches_of(stage: Stage) -> int:
    """Batches of `micro` sequences that one validation looks at in each held-out set; 0 for all."""
    told = stage.validation
    wanted = told.num_sequences or (FOLLOWING if stage.mixture.rule != "fixed" else 0)
    return told.max_batches or math.ceil(wanted / stage.batch.micro)


def sequences_of(stage: Stage, held_out: Mapping[str, Dataset]) -> dict[str, int]:
    """Sequences that one validation looks at, by held-out set."""
    most = batches_of(stage) * stage.batch.micro
    return {name: min(len(dataset), most or len(dataset)) for name, dataset in held_out.items()}


def cost_of_looking(
    stage: Stage, held_out: Mapping[str, Dataset], plan: Plan, tokens_per_batch: float, flops: Flops
) -> float:
    r"""Computing of all validations of a stage over that of its training.

        looks * (tokens of a look) * forward  /  (steps * (tokens of a batch) * (forward + backward))

    Reference losses, which are measured once, are not counted.

    Args:
        stage: says how much a validation looks at.
        held_out: the sets, by name.
        plan: how many steps, and how many between two validations.
        tokens_per_batch: of one step.
        flops: of the model at the length of the data.
    """
    tokens = sum(num * held_out[name].mean_length for name, num in sequences_of(stage, held_out).items())
    return _cost(stage, tokens, plan.num_steps, plan.validate_every, tokens_per_batch, flops)


def most_for_looking(stage: Stage, data: Data, num_steps: int | None, flops: Flops) -> float | None:
    """The same before anything is read, if the held-out sets have as much as is asked for; None where it is not known.

    Args:
        stage: says how much a validation looks at.
        data: its data set.
        num_steps: of the stage.
        flops: of the model at the length of the data.
    """
    asked = batches_of(stage) * stage.batch.micro
    if not isinstance(data, TextData) or num_steps is None or not asked or stage.validation.every.epochs:
        return None
    sets, tokens_per_batch = len(data.sources if data.valid_share else data.valid), stage.batch.sequences * data.context
    every = stage.validation.every.num_steps(tokens_per_batch, 0.0)
    return _cost(stage, sets * asked * data.context, num_steps, every, tokens_per_batch, flops)


def _cost(stage: Stage, tokens: float, num_steps: int, every: int, tokens_per_batch: float, flops: Flops) -> float:
    looks = math.ceil(num_steps / (every or num_steps)) + stage.validation.first
    trained = num_steps * max(tokens_per_batch, 1) * flops.training_executed
    return looks * tokens * flops.forward_executed / trained


def told_cost(stage: Stage, held_out: Mapping[str, Dataset], plan: Plan, cost: float) -> str:
    """A line about it where a mixture follows the losses, which needs validations; else nothing."""
    if stage.mixture.rule == "fixed":
        return ""
    seen = sequences_of(stage, held_out)
    few, many = min(seen.values()), max(seen.values())
    sequences = f"{few:,}" if few == many else f"{few:,} to {many:,}"
    sets = f"each of {len(seen)} held-out sets" if len(seen) > 1 else "the held-out set"
    line = f"{stage.name}: {sequences} sequences of {sets} every {plan.validate_every:,} updates cost {cost:.0%} of "
    if cost <= DEAR:
        return f"{line}the training"
    return f"{line}the training. A smaller validation.sequences or a longer validation.every makes it less"
