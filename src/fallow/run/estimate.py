"""What a recipe costs, stage by stage and in total, before anything is run or allocated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fallow.accounting.estimate import GIGA, Cost, cost_of, seconds
from fallow.accounting.planned import PlannedModel, converted, meta_model
from fallow.accounting.scaling import LAWS, Best, SparseLaw, best_sparsity
from fallow.accounting.sharding import Sharding
from fallow.data.settings import TextData
from fallow.errors import UserError
from fallow.run.configs import config_of
from fallow.run.heads import Head, head_of
from fallow.run.looking import most_for_looking
from fallow.run.manner import manner_of
from fallow.run.recipe import Recipe
from fallow.run.sizes import Amount, Sizes
from fallow.run.sources import built
from fallow.run.stage import Stage, named_path

Measure = Callable[[PlannedModel, Stage, int], float]
"""(model, stage, context) -> tokens a second of one process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked."""

    processes: int = 1
    memory: float = 0.0
    """GB of one device; 0 asks nothing."""

    tokens_per_second: float = 0.0
    """Of all processes together; 0 when it is not known."""

    epoch_tokens: Mapping[str, int]
    only: Sequence[str] = ()
    """Stages to look at, with those they begin with; empty for all."""

    loss: bool = False
    """Whether to predict losses."""

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise UserError(f"--processes is {self.processes}, but it must be at least 1")
        for name, value in (("memory", self.memory), ("tokens-per-second", self.tokens_per_second)):
            if not 0 <= value < float("inf"):
                raise UserError(f"--{name} is {value}, but it must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedLoss:
    """What one law says of a stage."""

    law: SparseLaw
    loss: float
    size: int
    """Positions as the law counts them."""

    dense: float
    """Size of the dense model of equal loss."""

    best: Best
    """The sparsity of lowest loss for the same operations."""

    outside: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCost:
    """One stage."""

    stage: Stage
    planned: PlannedModel
    context: int
    micro: int
    """Sequences that one device computes at once."""

    accumulation: int
    amount: Amount
    cost: Cost
    speed: float
    """Tokens a second of all processes; 0 when it is not known."""

    validation: float | None
    """Computing of its validations over that of its training, at most; None when it is not known."""

    losses: tuple[PredictedLoss, ...]
    no_loss: str
    """Why no loss is predicted, when it was asked for."""

    @property
    def seconds(self) -> float | None:
        """Training time; None when throughput or budget is not known."""
        if not self.speed or self.amount.tokens is None:
            return None
        return seconds(self.amount.tokens, self.speed)

    @property
    def disk(self) -> int:
        """Most bytes while the stage runs: checkpoints, one being written, best weights, the models of all trials."""
        disk, keep = self.cost.disk, self.stage.checkpoint.keep
        best = 2 * disk.best if self.stage.validation.keep == "best" else 0
        return (keep + 1) * disk.checkpoint + best + self.disk_left

    @property
    def disk_left(self) -> int:
        """Bytes that stay: the model, and that of every trial."""
        return self.cost.disk.model * (self.amount.trials + 1 if self.amount.trials > 1 else 1)

    def flops(self) -> dict[str, int] | None:
        """Operations of the whole budget, or None when it is not known."""
        tokens, one = self.amount.tokens, self.cost.flops
        if tokens is None:
            return None
        return {
            "forward": one.forward * tokens,
            "backward": (one.training - one.forward) * tokens,
            "needed": one.training * tokens,
            "dense": one.training_dense * tokens,
            "executed": one.training_executed * tokens,
        }

    def to_dict(self, limit: int | None) -> dict[str, Any]:
        """Plain numbers for JSON."""
        plain: dict[str, Any] = {
            "name": self.stage.name,
            "label": self.stage.label,
            "method": self.stage.method.name,
            "path": self.planned.path_name,
            "context": self.context,
            "batch": {"sequences": self.stage.batch.sequences, "micro": self.micro, "accumulation": self.accumulation},
            "budget": self.amount.to_dict(),
            **self.cost.to_dict(),
            "flops": self.flops(),
            "validation_cost": self.validation,
            "disk_while_running": self.disk,
            "disk_left": self.disk_left,
            "tokens_per_second": self.speed or None,
            "seconds": self.seconds,
        }
        if limit is not None:
            plain |= {"fits": self.cost.fits(limit), "largest_micro": self.cost.largest_micro}
        if self.losses or self.no_loss:
            plain["loss"] = {"laws": [_law_dict(one) for one in self.losses], "none_because": self.no_loss or None}
        return plain


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeCost:
    """All stages."""

    recipe: Recipe
    question: Question
    stages: tuple[StageCost, ...]

    @property
    def limit(self) -> int | None:
        """Bytes of a device, when they were given."""
        return round(self.question.memory * GIGA) if self.question.memory else None

    def total(self) -> dict[str, Any]:
        """Sums over the stages; those whose budget is not known are named and left out."""
        known = [one for one in self.stages if one.amount.tokens is not None]
        flops = [amount for one in known if (amount := one.flops()) is not None]
        summed = {
            key: sum(part[key] for part in flops) for key in ("forward", "backward", "needed", "dense", "executed")
        }
        times = [one.seconds for one in known if one.seconds is not None]
        left = sum(one.disk_left for one in self.stages)
        return {
            "tokens": sum(one.amount.tokens or 0 for one in known),
            "flops": summed,
            "reduction": summed["dense"] / summed["needed"] if summed["needed"] else None,
            "seconds": sum(times) if times and len(times) == len(known) else None,
            "memory_per_device": max(one.cost.memory.peak for one in self.stages),
            "disk": left + max(one.disk - one.disk_left for one in self.stages),
            "unknown": [one.stage.name for one in self.stages if one.amount.tokens is None],
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "recipe": self.recipe.name,
            "processes": self.question.processes,
            "precision": self.recipe.precision,
            "memory_limit": self.limit,
            "stages": [one.to_dict(self.limit) for one in self.stages],
            "total": self.total(),
        }


def estimate_recipe(recipe: Recipe, question: Question, measure: Measure | None = None) -> RecipeCost:
    """Count what every stage costs; nothing is allocated.

    Args:
        recipe: what is to be run.
        question: on how many processes, in how much memory, how fast.
        measure: gives a throughput for each different stage; by default the one of the question.

    Raises:
        UserError: a stage that cannot be built, or that the processes cannot share.
    """
    sizes = Sizes(recipe, question.epoch_tokens)
    chosen = recipe.lineage(question.only)
    limit = round(question.memory * GIGA) if question.memory else None
    models: dict[Any, PlannedModel] = {}
    speeds: dict[Any, float] = {}
    costs: dict[Any, Cost] = {}
    found = []
    for stage in recipe.stages:
        if stage.name not in chosen or not stage.trains:
            continue
        context = recipe.datasets[stage.dataset].context
        config = config_of(recipe, stage)
        head = head_of(recipe.datasets[stage.dataset])
        key = (repr(sorted(config.items(), key=str)), stage.method, stage.targets, stage.path, repr(head))
        if key not in models:
            models[key] = _plan(stage, recipe.stage(recipe.lineage([stage.name])[0]), config, head, _device(recipe))
        planned = models[key]
        accumulation = _accumulation(stage, question.processes)
        micro = min(stage.batch.micro, stage.batch.sequences // question.processes)
        manner = manner_of(stage, planned, question.processes)
        shape = (*key, context, micro, stage.batch.sequences, manner)
        if shape not in costs:
            costs[shape] = cost_of(
                Sharding(planned, question.processes, recipe.precision, _device(recipe), manner),
                context=context,
                micro=micro,
                sequences=stage.batch.sequences,
                accumulation=accumulation,
                limit=limit,
            )
            speeds[shape] = measure(planned, stage, context) * question.processes if measure else 0.0
        amount = sizes.amount(stage)
        losses, why = _losses(recipe, stage, planned, costs[shape], amount) if question.loss else ((), "")
        found.append(
            StageCost(
                stage=stage,
                planned=planned,
                context=context,
                micro=micro,
                accumulation=accumulation,
                amount=amount,
                cost=costs[shape],
                speed=speeds[shape] or question.tokens_per_second,
                validation=most_for_looking(
                    stage, recipe.datasets[stage.dataset], _steps_of_one(amount), costs[shape].flops
                ),
                losses=losses,
                no_loss=why,
            )
        )
    return RecipeCost(recipe=recipe, question=question, stages=tuple(found))


def _plan(stage: Stage, root: Stage, config: Mapping[str, Any], head: Head, device: str) -> PlannedModel:
    model = meta_model(head.undecided(config), lambda values: built(root, values, head))
    try:
        return converted(
            model, stage.method, targets=stage.targets, seed=stage.seed, path=named_path(stage), device=device
        )
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None


def _steps_of_one(amount: Amount) -> int | None:
    """Of one trial."""
    return None if amount.steps is None else max(amount.steps // amount.trials, 1)


def _accumulation(stage: Stage, processes: int) -> int:
    try:
        return stage.batch.accumulation(processes)
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None


def _device(recipe: Recipe) -> Literal["cpu", "cuda"]:
    return "cpu" if recipe.device == "cpu" else "cuda"


def _losses(
    recipe: Recipe, stage: Stage, planned: PlannedModel, cost: Cost, amount: Amount
) -> tuple[tuple[PredictedLoss, ...], str]:
    """The laws speak of models trained from the start on text, with one support or none."""
    if not stage.model.config:
        return (), "it begins with a trained model, and the laws are for training from the start"
    if not isinstance(recipe.datasets[stage.dataset], TextData):
        return (), "it trains on pairs, and the laws are for plain text"
    if any(layer.terms.sparse is None or layer.density == 1 for layer in planned.converted):
        return (), f"no published law covers method {stage.method.name}"
    if amount.tokens is None:
        return (), f"its budget is not known: {amount.why}"
    tokens, one = amount.tokens // amount.trials, cost.flops
    fixed = one.training_dense - 3 * one.linear_dense

    def flops_per_token(sparsity: float) -> float:
        return fixed + 3 * one.linear_dense * (1 - sparsity)

    found = []
    for law in LAWS:
        blocks = sum(layer.size for layer in planned.block_layers)
        size = blocks if law.counts == "linear" else cost.parameters.positions
        found.append(
            PredictedLoss(
                law=law,
                loss=law.loss(size, planned.sparsity, tokens),
                size=size,
                dense=size * law.dense_share(planned.sparsity),
                best=best_sparsity(law, size, one.training * tokens, flops_per_token),
                outside=tuple(law.outside(size, planned.sparsity, tokens)),
            )
        )
    return tuple(found), ""


def _law_dict(one: PredictedLoss) -> dict[str, Any]:
    return {
        "law": one.law.name,
        "source": one.law.source,
        "size": one.size,
        "counts": one.law.counts,
        "loss": one.loss,
        "dense_equivalent": one.dense,
        "best_for_these_flops": asdict(one.best),
        "outside_of_the_fit": list(one.outside),
        "limits": list(one.law.limits),
    }
