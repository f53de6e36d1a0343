"""One stage of a recipe: a model, a method, data, a budget."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fallow.config import Choices, Within, apply_overrides, check_bounds, flatten, from_dict, to_dict
from fallow.errors import UserError, nearest, unknown
from fallow.evaluate.evaluation import Evaluation
from fallow.linear.paths import PATHS
from fallow.linear.planner import MEASURE
from fallow.methods import Method
from fallow.methods.registry import registry
from fallow.pruning.settings import Heads, Weights
from fallow.run.mixing import Mixing
from fallow.shearing.settings import Cut
from fallow.train.optimizers.settings import Optimizer, optimizers
from fallow.train.settings import BatchSize, Checkpointing, Duration, LoopSettings, Schedule, Validation

INHERIT = -1

AUTO = "auto"
"""In place of a path: by the table."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def methods() -> Mapping[str, type[Method]]:
    """The methods that a stage can name."""
    return registry


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSource:
    """Where the model of a stage comes from; exactly one of the three.

    >>> ModelSource(stage="pretrain")
    ModelSource(config={}, path='', stage='pretrain', cut=None, moments=False)
    """

    config: dict[str, Any] = field(default_factory=dict)
    """Values of a Hugging Face configuration, `model_type` first: a new model with random weights."""

    path: str = ""
    """A Hugging Face folder, or `hub:owner/name`."""

    stage: str = ""
    """An earlier stage of this recipe: its finished model."""

    cut: Cut | None = None
    """Cut the model to a smaller shape first, by a score: a baseline for gates that are trained (method `shear`)."""

    moments: bool = False
    """Go on with what the optimizer of that stage remembers, too, instead of beginning anew: for a stage that shears
    `until: converged`, or one that is only continued."""

    def __post_init__(self) -> None:
        given = [key for key in ("config", "path", "stage") if getattr(self, key)]
        if not given:
            raise UserError("config, path and stage are all missing. Write one of them, such as stage: pretrain.")
        if len(given) > 1:
            raise UserError(f"{given[0]} and {given[1]} are given together, but a model has one source. Remove one.")
        if self.config and not isinstance(self.config.get("model_type"), str):
            raise UserError("config.model_type is missing. Write the architecture, such as model_type: gpt2.")

        if self.moments and not self.stage:
            raise UserError("moments has no effect without stage, whose optimizer they are from. Remove it.")
        if self.moments and self.cut is not None:
            raise UserError("moments belong to the whole model, but cut takes units away. Remove one of the two.")
        if self.cut is not None and self.config:
            raise UserError("cut has no effect on a new model, whose units are all random. Write its sizes in config.")

    def __str__(self) -> str:
        return self.path or (f"stage {self.stage}" if self.stage else f"new {self.config['model_type']}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Train one model with one method on one data set. The finished model lies in `<output>/<name>/model`."""

    name: str
    """Name of the stage and of its folder; letters, digits, - and _."""

    label: str = ""
    """What tables and plots call it. By default the name."""

    model: ModelSource
    """The model that the stage begins with."""

    method: Annotated[Method, Choices("name", methods)]
    """Which terms the weights are made of."""

    targets: tuple[str, ...] = ()
    """Patterns of the layers to convert, such as c_attn. Empty: all linear layers of the blocks."""

    prune: Weights | Heads | None = None
    """What is cut off the model before it is trained: kind: weights, or kind: heads. With it budget and optimizer may
    be left out: then nothing is trained, and the stage ends with the pruned model."""

    dataset: str
    """One of the recipe's data sets."""

    budget: Duration = Duration()
    """How long to train."""

    batch: BatchSize
    """Sequences in an update, and at once."""

    optimizer: Annotated[Optimizer | None, Choices("name", optimizers, default="adamw")] = None
    """The update. Without a name: adamw."""

    schedule: Schedule = Schedule()
    """The rate over time."""

    validation: Validation = Validation()
    """When to look at held-out data, and which weights to keep."""

    mixture: Mixing = Mixing()
    """Whether the shares of the data set's sources follow the losses."""

    checkpoint: Checkpointing = Checkpointing()
    """When to save, to continue after a crash."""

    evaluate: Evaluation = Evaluation()
    """How the finished stage is judged."""

    path: str = AUTO
    """How the converted layers are computed. auto: by a table of what was measured on common processors. measure: by a
    measurement on this machine when the stage begins. Or a path by name: materialise, factored, sparse, update,
    and on a GPU fused, block, semi_structured. The choice is written into the stage's folder, so that an interrupted
    stage goes on by the same one."""

    activations: Literal["keep", "recompute"] = "keep"
    """What a block keeps from forward to backward: all that its gradient needs, or its input alone. It then computes
    the rest again, which costs a forward pass of the blocks and gives the same numbers."""

    label_smoothing: float = 0.0
    """Share of the target spread evenly over the vocabulary. LoRA's E2E and WebNLG settings use 0.1."""

    seed: Annotated[int, Within(INHERIT)] = INHERIT
    """Seed of initial weights, supports, dropout and the order of the data. -1: the recipe's seed."""

    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Settings of this stage to try, by dotted key, such as optimizer.lr: [1e-4, 5e-5]. Every combination is
    trained, and the one with the lowest validation loss is kept."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name.isdigit() or self.name in _TAKEN:
            raise UserError(
                f'name is "{self.name}", but it must begin with a letter or digit, hold letters, digits, - and _ only, '
                "and be neither a number nor all, data or tokenizer, which mean something else. Did you mean "
                f"{re.sub('[^A-Za-z0-9_-]+', '-', self.name).strip('-_') or 'pretrain'}-1?"
            )
        check_bounds(self)
        if self.path not in (AUTO, MEASURE, *PATHS):
            raise unknown("path", self.path, (AUTO, MEASURE, *PATHS))
        if self.path != AUTO and self.method.name == "dense":
            raise UserError("path has no effect with method dense, whose layers stay as they are. Remove it.")
        if not self.label:
            object.__setattr__(self, "label", self.name)
        if self.trains:
            self.loop_settings("bf16")  # what fp32 rules out is known to the recipe
        else:
            self._check_untrained()
        for _ in self.trials():
            pass  # each is made, and so checked

    @property
    def trains(self) -> bool:
        """Whether anything is trained; a stage that only prunes does not."""
        return bool(self.budget)

    @property
    def update(self) -> Optimizer:
        """The optimizer of a stage that trains.

        Raises:
            UserError: there is none.
        """
        if self.optimizer is None:
            raise UserError("optimizer is missing. The update, such as optimizer: {lr: 5e-4}.")
        return self.optimizer

    def _check_untrained(self) -> None:
        """Without a budget a stage only prunes, and what speaks of training has no effect."""
        if self.prune is None:
            what = "is missing. How long to train, such as budget: {epochs: 5}"
            raise UserError(f"budget {what}; a stage that only prunes needs none, but has prune.")
        for field_of in dataclasses.fields(self):
            default = field_of.default if field_of.default is not dataclasses.MISSING else {}
            if field_of.name in _OF_TRAINING and getattr(self, field_of.name) != default:
                raise UserError(
                    f"{field_of.name} has no effect in a stage that only prunes. Remove it, or give the stage a "
                    "budget to train with."
                )

    def loop_settings(self, precision: Literal["fp32", "bf16"]) -> LoopSettings:
        """What the training loop is told."""
        return LoopSettings(
            budget=self.budget,
            batch=self.batch,
            optimizer=self.update,
            schedule=self.schedule,
            validation=self.validation,
            checkpoint=self.checkpoint,
            precision=precision,
            activations=self.activations,
            label_smoothing=self.label_smoothing,
            seed=max(self.seed, 0),
        )

    def trials(self) -> Iterator[tuple[dict[str, Any], "Stage"]]:
        """The combinations of the grid: what each one sets, and the stage that it makes. Without a grid, nothing."""
        if not self.grid:
            return
        plain = to_dict(dataclasses.replace(self, grid={}))
        known = [key for key in flatten(plain) if key.split(".")[0] not in _FIXED]
        for key, values in self.grid.items():
            if key not in known:
                close = nearest(key, known)
                hint = f"Did you mean {close}?" if close else f"Settings that can vary: {', '.join(known)}."
                raise UserError(f"grid: unknown key {key}. {hint}")
            if len(values) < 2:
                raise UserError(f"grid.{key} holds {len(values)} values, but a grid compares two or more.")
        if (num := math.prod(map(len, self.grid.values()))) > _MOST_TRIALS:
            raise UserError(f"grid has {num:,} combinations, but at most {_MOST_TRIALS:,} are trained. Leave some out.")
        for combination in itertools.product(*self.grid.values()):
            chosen = dict(zip(self.grid, combination, strict=True))
            yield chosen, from_dict(Stage, apply_overrides(plain, chosen.items()), prefix="grid")


_MOST_TRIALS = 1000

_OF_TRAINING = (
    "optimizer", "schedule", "validation", "mixture", "checkpoint", "activations", "label_smoothing", "grid",
)  # fmt: skip

_TAKEN = ("all", "data", "tokenizer")  # --stages.all, and the folders that stages share

_FIXED = ("name", "label", "model", "dataset", "checkpoint", "evaluate", "grid")  # what makes a stage that stage


def named_path(stage: Stage) -> str:
    """The path that a stage names; empty where it is chosen."""
    return "" if stage.path in (AUTO, MEASURE) else stage.path
