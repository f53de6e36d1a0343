"""What is said when a loss or a gradient is not a number."""

import math
from collections.abc import Sequence
from typing import Any

from fallow.errors import UserError
from fallow.train.distributed import Mesh

_MOST = 8


class NonFiniteError(UserError):
    """A loss or the norm of the gradients was infinite or not a number; nothing was changed by that step.

    Attributes:
        step: number of the refused step, from 1.
        ids: the sequences it was computed from, of all processes; those with a loss that is not finite, if any.
    """

    def __init__(self, message: str, step: int, ids: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.step, self.ids = step, ids


def refuse(step: int, loss: float, norm: float, losses: Sequence[float], batches: Sequence[Any], mesh: Mesh) -> None:
    """Raise `NonFiniteError` on all processes at once; call it where all have seen the same `loss` and `norm`.

    Args:
        step: number of the step, from 1.
        loss: the global loss.
        norm: the global norm of the gradients.
        losses: the loss of each micro-batch of this process.
        batches: these micro-batches.
        mesh: the processes.
    """
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradients is {norm}"
    bad = [batch for batch, own in zip(batches, losses, strict=True) if not math.isfinite(own)]
    every_bad = [name for names in mesh.gather([name for batch in bad for name in batch.ids]) for name in names]
    every = [name for names in mesh.gather([name for batch in batches for name in batch.ids]) for name in names]
    ids = tuple(every_bad or every)
    more = f" and {len(ids) - _MOST} more" if len(ids) > _MOST else ""
    shown = ", ".join(str(name) for name in ids[:_MOST]) + more
    raise NonFiniteError(
        f"{what} at step {step}, in a batch with sequences {shown}. Stopped before the update: the weights are those "
        f"of step {step - 1}. Lower optimizer.lr, lengthen schedule.warmup, set optimizer.clip, or look at the data.",
        step,
        ids,
    )
