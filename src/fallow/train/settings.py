"""What a training run is told: how long, how much at once, how fast, when to look and when to save."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from fallow.config import Natural, Positive, Within, check_bounds
from fallow.errors import UserError, unknown
from fallow.train.optimizers.settings import Optimizer

_KINDS = ("cosine", "linear", "constant")
_PAPER = 500
"""Sequences of each domain in the released validation set of Sheared LLaMA."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duration:
    """A stretch of training: in tokens, in optimizer steps or in passes over the data; at most one of them.

    All three 0 is no stretch at all: as a warm-up none, as an interval never.

    >>> Duration(tokens=1000).num_steps(tokens_per_step=300, steps_per_epoch=10.0)
    4
    >>> Duration(epochs=0.5).num_steps(tokens_per_step=300, steps_per_epoch=10.0)
    5
    """

    tokens: Annotated[int, Within(0, 10**18)] = 0
    """Tokens, over all processes. Counted as the mean number in a batch, so that the number of steps is known before
    the first one; exact for packed text."""

    steps: Annotated[int, Within(0, 10**12)] = 0
    """Updates of the optimizer."""

    epochs: Annotated[float, Within(0, 10**9)] = 0.0
    """Passes over all training sequences; may be a part of one."""

    def __post_init__(self) -> None:
        given = {"tokens": self.tokens, "steps": self.steps, "epochs": self.epochs}
        check_bounds(self)
        several = [name for name, value in given.items() if value]
        if len(several) > 1:
            raise UserError(
                f"{' and '.join(several)} are given together, but a duration has one unit. Remove all but one."
            )

    def __bool__(self) -> bool:
        return bool(self.tokens or self.steps or self.epochs)

    def __str__(self) -> str:
        for name in ("tokens", "steps", "epochs"):
            if value := getattr(self, name):
                return f"{value:,} {name}"
        return "never"

    def num_steps(self, tokens_per_step: float, steps_per_epoch: float) -> int:
        """This stretch in optimizer steps, rounded up; 0 when there is none.

        Args:
            tokens_per_step: tokens of a global batch.
            steps_per_epoch: global batches in one pass over the data; need not be whole.
        """
        exact = self.steps + self.tokens / tokens_per_step + self.epochs * steps_per_epoch
        return math.ceil(exact - 1e-9)


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most this; in time of its square root.

    >>> largest_divisor(96, 7), largest_divisor(97, 96)
    (6, 1)
    """
    pairs = ((n, number // n) for n in range(1, math.isqrt(number) + 1) if number % n == 0)
    return max(n for pair in pairs for n in pair if n <= most)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSize:
    """How many sequences make one update, and how many of them are computed at once."""

    sequences: Annotated[int, Within(1, 10**9)]
    """Sequences in one update, over all processes. Larger is smoother and needs a higher rate or more tokens."""

    micro: Annotated[int, Within(1, 10**9)]
    """Sequences in one forward and backward of one process. Changes memory and speed, not the result: the rest of the
    batch is accumulated."""

    reduce: Literal["micro", "update"] = "micro"
    """When several processes add up their gradients: after each `micro`-batch, so that none holds more than its share,
    or once an `update`, which divides that traffic by the number of micro-batches but holds whole gradients."""

    def __post_init__(self) -> None:
        if self.reduce not in ("micro", "update"):
            raise UserError(f"reduce: {unknown('time', self.reduce, ('micro', 'update'))}")
        check_bounds(self)
        if self.sequences % self.micro:
            nearest = largest_divisor(self.sequences, self.micro)
            raise UserError(
                f"micro is {self.micro}, but it must divide sequences = {self.sequences}. Did you mean {nearest}?"
            )

    def accumulation(self, world: int) -> int:
        """Micro-batches of one process in one update; a process whose share is below `micro` computes it at once.

        Raises:
            UserError: the processes cannot share the batch evenly.
        """
        if self.sequences % world:
            nearest = max(round(self.sequences / world), 1) * world
            raise UserError(
                f"batch.sequences is {self.sequences}, which {world} processes cannot share evenly. "
                f"Did you mean batch.sequences {nearest}?"
            )
        share = self.sequences // world
        if share % min(self.micro, share):
            nearest = largest_divisor(share, self.micro)
            raise UserError(
                f"batch.micro is {self.micro}, but each of {world} processes has {share} sequences of the batch, which "
                f"it does not divide. Did you mean batch.micro {nearest}?"
            )
        return share // min(self.micro, share)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How the rate moves: up in a straight line, then down to a share of the peak.

    >>> schedule = Schedule(kind="linear", final=0.0)
    >>> [round(schedule.factor(step, num_steps=4, num_warmup=1), 2) for step in range(4)]
    [0.5, 1.0, 0.67, 0.33]
    """

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    """The way down after the warm-up."""

    warmup: Duration = Duration()
    """How long the rate climbs. Sparse and large models need some: 1 to 3% of the budget."""

    final: float = 0.1
    """Share of the peak at the end. Without effect when kind is `constant`."""

    before: Duration = Duration()
    """Training of earlier stages that is on the same curve: this stage goes on where they left it, without a warm-up if
    theirs was as long. For a full-rank start of ReLoRA, for instance."""

    after: Duration = Duration()
    """Training of later stages that is on the same curve: this stage ends where they begin, above `final`."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise UserError(f"kind: {unknown('schedule', self.kind, _KINDS)}")
        if not 0 <= self.final <= 1:
            raise UserError(f"final is {self.final}, but it is a share of the peak rate: at least 0, at most 1.")
        if self.kind == "constant" and self.after:
            raise UserError(f"after is {self.after}, which has no effect with kind constant. Remove it.")
        if self.kind == "constant" and self.before and not self.warmup:
            raise UserError(f"before is {self.before}, which has no effect without a warm-up. Remove it.")

    def factor(self, step: int, num_steps: int, num_warmup: int) -> float:
        """The rate of one step as a share of the peak; a pure function, so that a resumed run cannot be off.

        With w = num_warmup and p = (step - w) / (num_steps - w):

            step < w:    (step + 1) / (w + 1)
            cosine:      final + (1 - final) (1 + cos(pi p)) / 2
            linear:      final + (1 - final) (1 - p)
            constant:    1

        Args:
            step: number of steps done before this one, from 0. Neither the first nor the last step has a rate of 0.
            num_steps: the whole curve.
            num_warmup: steps of warm-up, below num_steps.
        """
        if step < num_warmup:
            return (step + 1) / (num_warmup + 1)
        progress = min((step - num_warmup) / max(num_steps - num_warmup, 1), 1.0)
        if self.kind == "constant":
            return 1.0
        left = 1.0 - progress if self.kind == "linear" else (1.0 + math.cos(math.pi * progress)) / 2.0
        return self.final + (1.0 - self.final) * left


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """When to measure the loss on held-out data, and what follows from it. It is always measured at the end."""

    every: Duration = Duration()
    """Interval; all 0 for at the end only."""

    keep: Literal["last", "best"] = "last"
    """Which weights the stage ends with: the last ones, or those of the best validation."""

    by: Literal["loss", "score"] = "loss"
    """What makes a validation the best, for `keep`, `patience` and grids: the lowest loss, or the highest score of a
    classification task (accuracy, Matthews correlation and so on)."""

    patience: Natural = 0
    """Stop after this many validations in a row without a new best one. 0 for never."""

    max_batches: Natural = 0
    """Use at most this many batches of each held-out set. 0 for all, or what `sequences` says."""

    sequences: int | Literal["paper"] = 0
    """Use at most this many sequences of each held-out set, in whole batches of `micro`; `paper` for the 500 of Sheared
    LLaMA. 0 for all, or for 64 where a mixture follows the losses."""

    first: bool = False
    """Validate before the first step, too: shows the model that the stage begins with, and lets a mixture that follows
    the losses choose its first shares."""

    def __post_init__(self) -> None:
        if self.keep not in ("last", "best"):
            raise UserError(f"keep: {unknown('choice', self.keep, ('last', 'best'))}")
        if self.by not in ("loss", "score"):
            raise UserError(f"by: {unknown('choice', self.by, ('loss', 'score'))}")
        if isinstance(self.sequences, str) and self.sequences != "paper":
            raise UserError(f"sequences: {unknown('choice', self.sequences, ('paper',))}")
        check_bounds(self)
        if self.num_sequences < 0:
            raise UserError(f"sequences is {self.sequences}, but it must be at least 0.")
        if self.max_batches and self.sequences:
            raise UserError("max_batches and sequences both say how much is looked at. Remove one of them.")
        for name, asked in (("keep", self.keep == "best"), ("patience", self.patience > 0)):
            if asked and not self.every:
                raise UserError(
                    f"{name} is {getattr(self, name)}, which has no effect with one validation at the end. "
                    "Write every, such as every: {steps: 100}."
                )

    @property
    def num_sequences(self) -> int:
        """`sequences` as a number.

        >>> Validation(sequences="paper").num_sequences
        500
        """
        return _PAPER if isinstance(self.sequences, str) else self.sequences

    def cost(self, metrics: Mapping[str, float]) -> float:
        """What one validation measured as a number that is better when it is smaller.

        >>> Validation(by="score").cost({"loss": 0.7, "score": 0.9})
        -0.9
        """
        return -metrics["score"] if self.by == "score" else metrics["loss"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpointing:
    """When to save everything that is needed to continue, and how many of these to keep."""

    every: Duration = Duration()
    """Interval; all 0 for at the end only (and when a signal asks to stop)."""

    keep: Positive = 2
    """How many checkpoints stay. Two, so that one is left should the newest be damaged."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopSettings:
    """All that the loop is told."""

    budget: Duration
    """How long to train."""

    batch: BatchSize
    """Sequences in an update and at once."""

    optimizer: Optimizer
    """The update."""

    schedule: Schedule = Schedule()
    """The rate over time."""

    validation: Validation = Validation()
    """Held-out loss."""

    checkpoint: Checkpointing = Checkpointing()
    """Saving."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` computes forward and backward in bfloat16 where that is safe (autocast); weights, their updates and the
    loss stay in fp32."""

    activations: Literal["keep", "recompute"] = "keep"
    """What a block keeps from forward to backward: all that its gradient needs, or its input alone, and computes the
    rest again."""

    label_smoothing: float = 0.0
    """Share of the target spread evenly over the vocabulary. 0.1 is usual for fine-tuning on few pairs."""

    seed: int = 0
    """Seeds dropout, differently on each process. Data and supports have their own streams."""

    def __post_init__(self) -> None:
        if not self.budget:
            raise UserError("budget is 0, but a run needs one of budget.tokens, budget.steps and budget.epochs.")
        if self.precision not in ("fp32", "bf16"):
            raise UserError(f"precision: {unknown('precision', self.precision, ('fp32', 'bf16'))}")
        if self.activations not in ("keep", "recompute"):
            raise UserError(f"activations: {unknown('choice', self.activations, ('keep', 'recompute'))}")
        if self.optimizer.weights == "bf16" and self.precision == "fp32":
            raise UserError(
                "optimizer.weights is bf16, with which nothing can be computed in fp32. Write precision: bf16, or "
                "leave optimizer.weights out."
            )
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing is {self.label_smoothing}, but it must be at least 0 and below 1.")
        for unit in ("tokens", "steps", "epochs"):
            warmup, budget = getattr(self.schedule.warmup, unit), getattr(self.budget, unit)
            if warmup and budget and not (self.schedule.before or self.schedule.after):
                check_warmup(f"{warmup:,} {unit}", warmup, f"{budget:,} {unit}", budget)


def check_warmup(warmup_text: str, warmup: float, budget_text: str, budget: float) -> None:
    """Refuse a warm-up that leaves nothing of the budget.

    Raises:
        UserError: with what to write instead.
    """
    if warmup >= budget:
        raise UserError(
            f"schedule.warmup is {warmup_text}, but the whole budget is {budget_text}. "
            "Shorten the warm-up: 1 to 10% of the budget is usual."
        )
