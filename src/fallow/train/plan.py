"""Durations turned into steps, once, before the first one."""

from dataclasses import dataclass
from typing import Any, Protocol

from fallow.train.settings import LoopSettings, check_warmup


class Stream(Protocol):
    """An endless stream of batches, as the loop needs it."""

    @property
    def tokens_per_batch(self) -> int:
        """Mean number of tokens in a global batch."""
        ...

    @property
    def epoch_length(self) -> int:
        """Sequences in one pass over the data."""
        ...

    def next_batches(self, num_micro: int) -> list[Any]:
        """This process's share of the next global batch, in `num_micro` micro-batches."""
        ...

    def observe(self, metrics: dict[str, float], /) -> dict[str, float]:
        """Called with what each validation measured, the same on all processes; what it says joins the measurements."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go there."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The settings in steps."""

    num_steps: int
    """Budget."""
    num_warmup: int
    """Warm-up of the rate."""
    num_before: int = 0
    """Steps of earlier stages on the same curve of the rate."""
    num_after: int = 0
    """Steps of later stages on it."""
    validate_every: int
    """0 for at the end only."""
    save_every: int
    """0 for at the end only."""
    accumulation: int
    """Micro-batches of a process in a step."""

    @property
    def num_curve(self) -> int:
        """Steps of the whole curve of the rate."""
        return self.num_before + self.num_steps + self.num_after

    @classmethod
    def of(cls, settings: LoopSettings, stream: Stream, world: int) -> "Plan":
        """The plan of a run on this data with this many processes.

        Raises:
            UserError: the warm-up is as long as the budget, or the processes cannot share the batch.
        """
        tokens = max(stream.tokens_per_batch, 1)
        epoch = stream.epoch_length / settings.batch.sequences
        num_steps = settings.budget.num_steps(tokens, epoch)
        num_warmup = settings.schedule.warmup.num_steps(tokens, epoch)
        before = settings.schedule.before.num_steps(tokens, epoch)
        after = settings.schedule.after.num_steps(tokens, epoch)
        check_warmup(
            f"{settings.schedule.warmup} = {num_warmup:,} steps",
            num_warmup,
            f"{settings.budget} = {num_steps:,} steps"
            + (f" (the whole curve {before + num_steps + after:,})" if before or after else ""),
            before + num_steps + after,
        )
        return cls(
            num_steps=num_steps,
            num_warmup=num_warmup,
            num_before=before,
            num_after=after,
            validate_every=settings.validation.every.num_steps(tokens, epoch),
            save_every=settings.checkpoint.every.num_steps(tokens, epoch),
            accumulation=settings.batch.accumulation(world),
        )
