"""Pairs of a context and a target as sequences with the loss on the target."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fallow.data.batch import IGNORE, Batch, Sample, collate
from fallow.data.formats.pair import Pair
from fallow.data.tokenizer import encode_batch
from fallow.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Pair", "PairDataset", "PairReport"]

_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class PairReport:
    """What became of the pairs of a file.

    Attributes:
        read: pairs in the file.
        kept: pairs in the data set.
        cut: of those kept, pairs whose context was shortened.
        dropped: pairs left out because they are longer than the context.
        longest: length in tokens of the longest pair before that.
    """

    read: int
    kept: int
    cut: int
    dropped: int
    longest: int


class PairDataset:
    """Encoded pairs: context tokens, the end token as a separator, then the tokens of blank + target and the end token.

    This is the encoding of LoRA's pipeline (Hu et al., 2021), which DSEE and SPDF use. The loss is taken on the
    target and its end token; context and separator have the label -100.

    Args:
        pairs: contexts and targets, in the order of the file.
        tokenizer: with an end token.
        context: largest length of a sequence; an encoded pair is one longer, as labels are shifted.
        overflow: what to do with a longer pair: `error`, `cut` its context, or `drop` it. A target that does not fit on
            its own is an error, or dropped; it is never cut.
        cut: remove the `end` or the `start` of the context.
        name: of the data set, for messages.

    Raises:
        UserError: a pair does not fit; nothing is left.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        tokenizer: "PreTrainedTokenizerFast",
        context: int,
        *,
        overflow: Literal["error", "cut", "drop"] = "error",
        cut: Literal["end", "start"] = "end",
        name: str = "pairs",
    ) -> None:
        self.context, self.name = context, name
        eos = tokenizer.eos_token_id
        assert isinstance(eos, int)  # load_tokenizer refuses one without
        self._overflow, self._cut_side, self._num_cut, self._longest = overflow, cut, 0, 0
        kept: list[Pair] = []
        encoded: list[np.ndarray] = []
        starts: list[int] = []
        for first in range(0, len(pairs), _CHUNK):
            chunk = pairs[first : first + _CHUNK]
            contexts = encode_batch(tokenizer, [pair.context for pair in chunk])
            targets = encode_batch(tokenizer, [" " + pair.target for pair in chunk])
            for number, (pair, left, right) in enumerate(zip(chunk, contexts, targets, strict=True), start=first):
                fitted = self._fit(left, right, number)
                if fitted is None:
                    continue
                if len(fitted) < len(left):
                    pair = Pair(tokenizer.decode(fitted, clean_up_tokenization_spaces=False), pair.target)
                kept.append(pair)
                starts.append(len(fitted) + 1)
                encoded.append(np.array([*fitted, eos, *right, eos], dtype=np.int32))
        if not kept:
            raise UserError(
                f"{name} has no pair that fits into {context} tokens. Use a larger context, or overflow: cut."
            )
        self.pairs: tuple[Pair, ...] = tuple(kept)
        self._tokens = np.concatenate(encoded)
        self._edges = np.cumsum([0] + [len(ids) for ids in encoded])
        self._starts = np.array(starts)
        self.report = PairReport(len(pairs), len(kept), self._num_cut, len(pairs) - len(kept), self._longest)

    def __len__(self) -> int:
        return len(self.pairs)

    def sample(self, index: int) -> Sample:
        """Inputs and labels of pair `index`; as long as the pair, at most `context`."""
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        tokens = self._tokens[self._edges[index] : self._edges[index + 1]].astype(np.int64)
        labels = tokens[1:].copy()
        labels[: self._starts[index] - 1] = IGNORE
        return tokens[:-1], labels

    def groups(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each distinct context once, in the order of the file, with all its targets as references.

        Contexts are as the model sees them: one that was cut is shown cut. A text is to be generated after the tokens
        of the context and one end token.
        """
        found: dict[str, list[str]] = {}
        for pair in self.pairs:
            found.setdefault(pair.context, []).append(pair.target)
        return [(context, tuple(targets)) for context, targets in found.items()]

    @property
    def num_tokens(self) -> int:
        """Tokens in all sequences, without padding."""
        return len(self._tokens) - len(self)

    @property
    def num_targets(self) -> int:
        """Positions with a loss in all sequences."""
        return int(len(self._tokens) - self._starts.sum())

    @property
    def mean_length(self) -> float:
        """Mean length of a sequence in tokens."""
        return self.num_tokens / len(self)

    @property
    def fingerprint(self) -> str:
        """Of the encoded pairs and the context."""
        digest = hashlib.sha256(f"{self.context} {asdict(self.report)}".encode())
        for part in (self._tokens.astype("<i4"), self._edges.astype("<i8"), self._starts.astype("<i8")):
            digest.update(part.tobytes())
        return digest.hexdigest()[:16]

    def collate(self, samples: Sequence[Sample], ids: Sequence[str | int] = ()) -> Batch:
        """Sequences as one batch, padded on the right to the longest one."""
        return collate(samples, ids)

    def _fit(self, context: list[int], target: list[int], number: int) -> list[int] | None:
        """The context, cut where that is asked for; None when the pair is to be left out."""
        length = len(context) + len(target) + 1  # separator; the end token is a label only
        self._longest = max(self._longest, length)
        if length <= self.context:
            return context
        if self._overflow == "drop":
            return None
        room = self.context - len(target) - 1
        if self._overflow == "error" or room < 1:
            what = "target" if room < 1 else "pair"
            advice = "overflow: drop" if room < 1 else "overflow: cut or overflow: drop"
            raise UserError(
                f"{what} {number} of {self.name} has {len(target) if room < 1 else length} tokens, more than the "
                f"context of {self.context}. Write {advice}, or a larger context."
            )
        self._num_cut += 1
        return context[:room] if self._cut_side == "end" else context[-room:]
