"""Pairs of a context and a target as sequences with the loss on the target."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

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
        dropped: pairs left out because they, or their targets alone, are longer than the context.
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
        overflow: what to do with a longer pair: stop with an `error`, `cut` its context, or `drop` it. A target is
            never cut: where it is too long on its own, `cut` drops the pair. All of it is counted in `report`.
        cut: remove the `end` or the `start` of the context.
        name: of the data set, for messages.

    Raises:
        UserError: pairs do not fit and `overflow` is `error`; nothing is left.
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
        contexts = _encode(tokenizer, [pair.context for pair in pairs])
        targets = _encode(tokenizer, [" " + pair.target for pair in pairs])
        lengths = [len(left) + len(right) + 1 for left, right in zip(contexts, targets, strict=True)]
        if overflow == "error":
            self._refuse_longer(lengths)
        # References of one context share one cut, so that they stay one group.
        room: dict[str, int] = {}
        for pair, target in zip(pairs, targets, strict=True):
            if len(target) + 2 <= context:
                room[pair.context] = min(room.get(pair.context, context), context - 1 - len(target))
        kept: list[Pair] = []
        encoded: list[NDArray[np.int32]] = []
        starts: list[int] = []
        num_cut = 0
        for pair, left, right in zip(pairs, contexts, targets, strict=True):
            if len(right) + 2 > context or (overflow == "drop" and len(left) + len(right) + 1 > context):
                continue
            if len(left) > room[pair.context] and overflow == "cut":
                left = left[: room[pair.context]] if cut == "end" else left[-room[pair.context] :]
                pair = Pair(str(tokenizer.decode(left.tolist(), clean_up_tokenization_spaces=False)), pair.target)
                num_cut += 1
            kept.append(pair)
            starts.append(len(left) + 1)
            encoded.append(np.concatenate((left, [eos], right, [eos])).astype(np.int32))
        if not kept:
            raise UserError(
                f"{name} has no pair that fits into {context} tokens. Use a larger context, or overflow: cut."
            )
        self.pairs: tuple[Pair, ...] = tuple(kept)
        self._tokens = np.concatenate(encoded)
        self._edges = np.cumsum([0] + [len(ids) for ids in encoded])
        self._starts = np.array(starts)
        self._first = {pair.context: index for index, pair in reversed(list(enumerate(kept)))}
        self.report = PairReport(len(pairs), len(kept), num_cut, len(pairs) - len(kept), max(lengths))

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

        Contexts are as the model sees them: one that was cut is shown cut. A text is to be generated after `prompt`.
        """
        found: dict[str, list[str]] = {}
        for pair in self.pairs:
            found.setdefault(pair.context, []).append(pair.target)
        return [(context, tuple(targets)) for context, targets in found.items()]

    def prompt(self, context: str) -> list[int]:
        """The tokens that a text is generated after: those of a context of `groups()`, and the separator.

        Raises:
            KeyError: not one of these contexts.
        """
        index = self._first[context]
        tokens: list[int] = self._tokens[self._edges[index] :][: self._starts[index]].tolist()
        return tokens

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
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of the targets for each position with a loss."""
        size = sum(len(pair.target.encode("utf-8", "surrogatepass")) for pair in self.pairs)
        return size / self.num_targets

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

    def _refuse_longer(self, lengths: list[int]) -> None:
        longer = [number for number, length in enumerate(lengths) if length > self.context]
        if longer:
            raise UserError(
                f"{len(longer):,} of {len(lengths):,} pairs of {self.name} are longer than the context of "
                f"{self.context} tokens: number {longer[0]} has {lengths[longer[0]]}, the longest {max(lengths)}. "
                "Write overflow: cut or overflow: drop, or a larger context."
            )


def _encode(tokenizer: "PreTrainedTokenizerFast", texts: list[str]) -> list[NDArray[np.int32]]:
    found: list[NDArray[np.int32]] = []
    for first in range(0, len(texts), _CHUNK):  # lists of Python integers are ten times as large
        found += [np.array(ids, dtype=np.int32) for ids in encode_batch(tokenizer, texts[first : first + _CHUNK])]
    return found
