"""What is said when a loss or a gradient is not a number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fallow.errors import UserError
from fallow.train.distributed import Mesh

_MOST = 8


class NonFiniteError(UserError):
    """A loss or the norm of the gradients was infinite or not a number; nothing was changed with it.

    Attributes:
        step: number of the refused step, from 1.
        ids: the sequences it was computed from, of all processes; those with a loss that is not finite, if any.
    """

    def __init__(self, message: str, step: int, ids: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.step, self.ids = step, ids


@dataclass(frozen=True, slots=True)
class Seen:
    """What a process knows of the step."""

    loss: float
    """The global loss."""

    norm: float
    """The global norm of the gradients."""

    losses: Sequence[float]
    """The loss of each micro-batch of this process."""

    batches: Sequence[Any]
    """These micro-batches."""

    num_changed: int = 0
    """Parameters that this process updated before it was seen."""


def refuse(step: int, seen: Seen, mesh: Mesh) -> None:
    """Raise `NonFiniteError` on all processes at once; call it where all have seen the same `loss` and `norm`.

    Args:
        step: number of the step, from 1.
        seen: what this process knows.
        mesh: the processes.
    """
    what = f"the loss is {seen.loss}" if not math.isfinite(seen.loss) else f"the norm of the gradients is {seen.norm}"
    bad = [batch for batch, own in zip(seen.batches, seen.losses, strict=True) if not math.isfinite(own)]
    every_bad = [name for names in mesh.gather([name for batch in bad for name in batch.ids]) for name in names]
    every = [name for names in mesh.gather([name for batch in seen.batches for name in batch.ids]) for name in names]
    ids = tuple(every_bad or every)
    more = f" and {len(ids) - _MOST} more" if len(ids) > _MOST else ""
    shown = ", ".join(str(name) for name in ids[:_MOST]) + more
    changed = max(mesh.gather(seen.num_changed))
    left = f"Stopped before the update: the weights are those of step {step - 1}"
    if changed:
        left = (
            f"Updates per layer had changed {changed} parameters by then, so the weights in memory are of no step; the "
            "last checkpoint is whole, and the same command continues from it"
        )
    raise NonFiniteError(
        f"{what} at step {step}, in a batch with sequences {shown}. {left}. Lower optimizer.lr, lengthen "
        "schedule.warmup, set optimizer.clip, or look at the data.",
        step,
        ids,
    )
