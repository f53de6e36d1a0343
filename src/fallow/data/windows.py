"""Text in windows that overlap, every token predicted once."""

import hashlib
from collections.abc import Sequence

import numpy as np

from fallow.data.batch import IGNORE, Batch, Sample, collate
from fallow.data.shards import Shards
from fallow.errors import UserError


class WindowDataset:
    """All tokens of some text, for evaluation: window i begins at token i * stride and is at most `context` long.

    A window has labels only where the one before it ended, so each token counts once, the end token of each document
    and the last tokens of the text included. It is predicted from at least context - stride tokens, where there are as
    many. The text begins after an end token, as every document in it does.

    Args:
        shards: opened token shards.
        context: length of a window.
        stride: 1 to `context`. With 1 every token sees the full context; with `context` windows lie side by side.

    Raises:
        UserError: the stride is out of range.
    """

    def __init__(self, shards: Shards, context: int, stride: int) -> None:
        if not 1 <= stride <= context:
            raise UserError(f"stride is {stride}, but it must be 1 to {context}, the length of a window.")
        self.shards, self.context, self.stride = shards, context, stride
        self.name = shards.index.name

    def __len__(self) -> int:
        return 1 + -(-max(0, len(self.shards) - self.context) // self.stride)

    def sample(self, index: int) -> Sample:
        """Inputs and labels of window `index`; the last one may be shorter."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        start = index * self.stride
        end = min(start + self.context, len(self.shards))
        labels = self.shards.read(start, end)
        before = self.shards.read(start - 1, start) if start else np.array([self.shards.index.eos], dtype=np.int64)
        inputs = np.concatenate((before, labels[:-1]))
        if index:
            labels[: self.context - self.stride] = IGNORE
        return inputs, labels

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of the text for each token; 0 when the shards do not know."""
        return self.shards.index.num_text_bytes / len(self.shards)

    @property
    def mean_length(self) -> float:
        """Mean length of a window."""
        last = len(self.shards) - (len(self) - 1) * self.stride
        return ((len(self) - 1) * self.context + last) / len(self)

    @property
    def fingerprint(self) -> str:
        """Of the token ids and the windows."""
        facts = [shard.sha256 for shard in self.shards.index.shards]
        return hashlib.sha256(f"{self.context} {self.stride} {facts}".encode()).hexdigest()[:16]

    def collate(self, samples: Sequence[Sample], ids: Sequence[str | int] = ()) -> Batch:
        """Windows as one batch."""
        return collate(samples, ids)
