"""Sequences of one length cut from token shards."""

import hashlib
from collections.abc import Sequence

import numpy as np

from fallow.data.batch import Batch, Sample, collate
from fallow.data.shards import Shards
from fallow.errors import UserError


class TokenDataset:
    """Packed text: sample i holds tokens i * context to (i + 1) * context, and the same moved by one as labels.

    Documents follow each other with an end token between; a sequence may hold the end of one and the beginning of the
    next. Up to `context` tokens at the very end of the text are not used.

    Args:
        shards: opened token shards.
        context: length of a sequence.

    Raises:
        UserError: the text is shorter than one sequence.
    """

    def __init__(self, shards: Shards, context: int) -> None:
        self.shards, self.context, self.name = shards, context, shards.index.name
        if len(shards) <= context:
            raise UserError(
                f"{shards.index.name} has {len(shards):,} tokens, less than one sequence of {context} and its label. "
                f"Write context: {max(2, len(shards) - 1)} or less, or use more text."
            )

    def __len__(self) -> int:
        return (len(self.shards) - 1) // self.context

    def sample(self, index: int) -> Sample:
        """Inputs and labels of sequence `index`, each of length `context`; costs one small read."""
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        tokens = self.shards.read(index * self.context, (index + 1) * self.context + 1)
        return tokens[:-1], tokens[1:]

    @property
    def num_tokens(self) -> int:
        """Tokens in all sequences."""
        return len(self) * self.context

    @property
    def mean_length(self) -> float:
        """Every sequence has length `context`."""
        return float(self.context)

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of the text for each token; 0 when the shards do not know."""
        return self.shards.index.num_text_bytes / len(self.shards)

    @property
    def fingerprint(self) -> str:
        """Of the token ids and the context."""
        facts = [shard.sha256 for shard in self.shards.index.shards]
        return hashlib.sha256(f"{self.context} {facts}".encode()).hexdigest()[:16]

    def collate(self, samples: Sequence[Sample], ids: Sequence[str | int] = ()) -> Batch:
        """Sequences as one batch."""
        return collate(samples, ids)

    def boundaries(self, index: int) -> list[int]:
        """Positions in sequence `index` that hold the end token of a document."""
        return np.flatnonzero(self.sample(index)[0] == self.shards.index.eos).tolist()
