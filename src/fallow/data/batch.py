"""What the loop is fed: a batch of token ids with labels that are already shifted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

IGNORE = -100
"""The label of a position without loss; torch's cross-entropy leaves it out by default."""

Sample = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Inputs and labels of one sequence, of equal length."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences of one micro-batch.

    labels[:, t] is the token that follows input_ids[:, t], or -100 where no loss is taken: a model's logits and these
    labels are compared position by position, without another shift.

    Attributes:
        input_ids: (b, t), int64. Right-padded with 0; a causal model needs no mask, as nothing looks to the right.
        labels: (b, t), int64.
        ids: where each sequence comes from, for messages.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    ids: tuple[str | int, ...] = ()

    @property
    def num_valid(self) -> int:
        """Number of positions with a loss."""
        return int((self.labels != IGNORE).sum())

    @property
    def num_tokens(self) -> int:
        """Number of positions, padding included: what the model computes."""
        return self.input_ids.numel()

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(self.input_ids.to(device), self.labels.to(device), self.ids)


class Dataset(Protocol):
    """Sequences that can be asked for by number, each at the cost of one sequence."""

    context: int
    name: str
    """For messages."""

    def __len__(self) -> int: ...

    def sample(self, index: int) -> Any:
        """One sequence, at most `context` long, as `collate` takes it: a `Sample`, or a `LabelSample`."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when any sequence changes."""
        ...

    @property
    def mean_length(self) -> float:
        """Mean length of a sequence in tokens."""
        ...

    def collate(self, samples: Sequence[Any], ids: Sequence[str | int] = ()) -> Any:
        """Sequences as one batch: a `Batch`, or a `LabelBatch`."""
        ...


def collate(samples: Sequence[Sample], ids: Sequence[str | int] = ()) -> Batch:
    """Sequences padded on the right to the longest one; padding has no loss.

    >>> import numpy as np
    >>> two = [(np.array([5, 6]), np.array([6, 7])), (np.array([8]), np.array([9]))]
    >>> collate(two).labels.tolist()
    [[6, 7], [9, -100]]
    """
    width = max(len(inputs) for inputs, _ in samples)
    input_ids = np.zeros((len(samples), width), dtype=np.int64)
    labels = np.full((len(samples), width), IGNORE, dtype=np.int64)
    for row, (inputs, targets) in enumerate(samples):
        input_ids[row, : len(inputs)] = inputs
        labels[row, : len(targets)] = targets
    return Batch(torch.from_numpy(input_ids), torch.from_numpy(labels), tuple(ids))
