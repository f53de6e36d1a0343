"""Texts with one label each as sequences of tokens. b: sequences of a batch, t: positions."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fallow.data.formats.glue import Example
from fallow.data.task import Task
from fallow.errors import UserError
from fallow.stock import tokenizing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class LabelBatch:
    """Sequences of one micro-batch, each with one label.

    Attributes:
        input_ids: (b, t), int64, padded on the right.
        attention_mask: (b, t), int64: 1 for tokens, 0 for padding.
        token_type_ids: (b, t), int64: 0 for the first text, 1 for the second; None where the tokenizer does not say.
        labels: (b,), int64 numbers of classes, or float32 values.
        ids: where each sequence comes from, for messages.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor | None
    labels: torch.Tensor
    ids: tuple[str | int, ...] = ()

    @property
    def num_valid(self) -> int:
        """Number of labels."""
        return len(self.labels)

    @property
    def num_tokens(self) -> int:
        """Number of positions, padding included: what the model computes."""
        return self.input_ids.numel()

    def inputs_for(self, model: Any) -> dict[str, torch.Tensor]:
        """What a model is called with; token types only where it has embeddings for both."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        if self.token_type_ids is not None and getattr(model.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = self.token_type_ids
        return inputs

    def to(self, device: torch.device | str) -> "LabelBatch":
        """The same batch on another device."""
        types = None if self.token_type_ids is None else self.token_type_ids.to(device)
        return LabelBatch(
            self.input_ids.to(device), self.attention_mask.to(device), types, self.labels.to(device), self.ids
        )


@dataclass(frozen=True, slots=True)
class LabelSample:
    """One sequence: token ids and types (t,), and its label."""

    tokens: NDArray[np.int64]
    types: NDArray[np.int64]
    label: int | float


@dataclass(frozen=True, slots=True)
class ClassificationReport:
    """What became of the examples of a data set.

    Attributes:
        read: examples in the files.
        kept: examples in the data set.
        cut: of those kept, examples whose texts were shortened.
        dropped: examples left out because they are longer than the context.
        longest: length in tokens of the longest example before that.
    """

    read: int
    kept: int
    cut: int
    dropped: int
    longest: int


class ClassificationDataset:
    """Encoded texts or pairs of texts with their labels.

    A tokenizer with a template of its own places the marks: [CLS] a [SEP] b [SEP] for BERT, <s> a </s></s> b </s> for
    RoBERTa. One without (GPT-2's) gives the end token, a, and for pairs the end token and b: in pre-training, too, a
    document begins after an end token. A causal model answers at the last token, BERT and RoBERTa at the first.

    Args:
        examples: all with labels where they are to be trained or scored on.
        tokenizer: of the model.
        context: largest length of a sequence, marks included.
        task: what the labels mean.
        overflow: what to do with a longer example: stop with an `error`; `cut` tokens off the end of the longer text,
            as GLUE's scripts do; `drop` it.
        name: of the data set, for messages.

    Raises:
        UserError: an example is too long and `overflow` is `error`; nothing is left.

    Differs from transformers' GLUE script: there, GPT-2 gets both texts of a pair without a mark between them.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: "PreTrainedTokenizerFast",
        context: int,
        task: Task,
        *,
        overflow: Literal["error", "cut", "drop"] = "error",
        name: str = "examples",
    ) -> None:
        self.context, self.task, self.name = context, task, name
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.pad = int(pad) if isinstance(pad, int) else 0
        encode = _Encoder(tokenizer, context, task)
        kept: list[Example] = []
        tokens: list[NDArray[np.int32]] = []
        types: list[NDArray[np.int8]] = []
        longest = num_cut = num_long = 0
        for first in range(0, len(examples), _CHUNK):
            chunk = examples[first : first + _CHUNK]
            for example, (row, kinds) in zip(chunk, encode(chunk), strict=True):
                longest = max(longest, len(row))
                if len(row) > context:
                    num_long += 1
                    if overflow != "cut":
                        continue
                    row, kinds = encode.cut(example)
                    num_cut += 1
                kept.append(example)
                tokens.append(row)
                types.append(kinds)
        if num_long and overflow == "error":
            raise UserError(
                f"{num_long:,} of {len(examples):,} examples of {name} are longer than the context of {context} "
                f"tokens: the longest has {longest}. Write overflow: cut or overflow: drop, or a larger context."
            )
        if not kept:
            raise UserError(f"{name} has no example that fits into {context} tokens. Write a larger context.")
        self.examples: tuple[Example, ...] = tuple(kept)
        self._tokens, self._types = np.concatenate(tokens), np.concatenate(types)
        self._edges = np.cumsum([0] + [len(row) for row in tokens])
        self.has_types = bool(self._types.any())
        self.report = ClassificationReport(len(examples), len(kept), num_cut, len(examples) - len(kept), longest)

    def __len__(self) -> int:
        return len(self.examples)

    def sample(self, index: int) -> LabelSample:
        """Sequence `index` with its label."""
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        a, b = self._edges[index], self._edges[index + 1]
        label = self.examples[index].label
        label = 0 if label is None else label  # only asked for answers; the reader refuses to train on such a file
        return LabelSample(self._tokens[a:b].astype(np.int64), self._types[a:b].astype(np.int64), label)

    @property
    def num_tokens(self) -> int:
        """Tokens in all sequences, without padding."""
        return len(self._tokens)

    @property
    def mean_length(self) -> float:
        """Mean length of a sequence in tokens."""
        return self.num_tokens / len(self)

    @property
    def fingerprint(self) -> str:
        """Of the encoded texts, the labels and the context."""
        digest = hashlib.sha256(f"{self.context} {self.task.name} {asdict(self.report)}".encode())
        labels = np.array([-1 if e.label is None else e.label for e in self.examples], dtype="<f8")
        for part in (self._tokens.astype("<i4"), self._types, self._edges.astype("<i8"), labels):
            digest.update(part.tobytes())
        return digest.hexdigest()[:16]

    def collate(self, samples: Sequence[LabelSample], ids: Sequence[str | int] = ()) -> LabelBatch:
        """Sequences as one batch, padded on the right to the longest one."""
        width = max(len(sample.tokens) for sample in samples)
        tokens_bt = np.full((len(samples), width), self.pad, dtype=np.int64)
        mask_bt, types_bt = np.zeros_like(tokens_bt), np.zeros_like(tokens_bt)
        for row, sample in enumerate(samples):
            length = len(sample.tokens)
            tokens_bt[row, :length], types_bt[row, :length], mask_bt[row, :length] = sample.tokens, sample.types, 1
        kind = torch.float32 if self.task.is_regression else torch.int64
        return LabelBatch(
            torch.from_numpy(tokens_bt),
            torch.from_numpy(mask_bt),
            torch.from_numpy(types_bt) if self.has_types else None,
            torch.tensor([sample.label for sample in samples], dtype=kind),
            tuple(ids),
        )


Row = tuple[NDArray[np.int32], NDArray[np.int8]]
"""Token ids and types of one sequence."""


class _Encoder:
    """Texts to token ids with the tokenizer's marks, or with end tokens where it has none."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", context: int, task: Task) -> None:
        self.backend, self.context, self.has_pairs = tokenizer.backend_tokenizer, context, task.has_pairs
        self.num_marks = tokenizer.num_special_tokens_to_add(pair=task.has_pairs)
        self.mark = tokenizer.eos_token_id if self.num_marks == 0 else None
        if self.num_marks == 0 and self.mark is None:
            raise UserError("the tokenizer has neither a template for texts nor an end token (eos_token). Set one.")

    def __call__(self, examples: Sequence[Example]) -> list[Row]:
        """All of them, whole."""
        self.backend.no_truncation()
        self.backend.no_padding()
        if self.mark is not None:
            firsts = self._plain([example.first for example in examples])
            seconds = self._plain([example.second for example in examples]) if self.has_pairs else [None] * len(firsts)
            return [self._joined(a, b) for a, b in zip(firsts, seconds, strict=True)]
        texts = [(e.first, e.second) if self.has_pairs else e.first for e in examples]
        with tokenizing():
            return [_row(found.ids, found.type_ids) for found in self.backend.encode_batch(texts)]

    def cut(self, example: Example) -> Row:
        """One of them, shortened to the context token by token, always at the end of the longer text."""
        self.backend.no_truncation()
        self.backend.no_padding()
        if self.mark is None:
            self.backend.enable_truncation(self.context, strategy="longest_first")
            with tokenizing():
                found = self.backend.encode(*([example.first, example.second] if self.has_pairs else [example.first]))
            self.backend.no_truncation()
            return _row(found.ids, found.type_ids)
        [a] = self._plain([example.first])
        b = self._plain([example.second])[0] if self.has_pairs else None
        room = self.context - (1 if b is None else 2)
        while len(a) + len(b or ()) > room:
            (a if b is None or len(a) >= len(b) else b).pop()
        return self._joined(a, b)

    def _plain(self, texts: list[str]) -> list[list[int]]:
        with tokenizing():
            return [found.ids for found in self.backend.encode_batch(texts, add_special_tokens=False)]

    def _joined(self, a: list[int], b: list[int] | None) -> Row:
        assert self.mark is not None
        ids = [self.mark, *a] if b is None else [self.mark, *a, self.mark, *b]
        return _row(ids, [0] * len(ids))


def _row(ids: list[int], types: list[int]) -> Row:
    return np.array(ids, dtype=np.int32), np.array(types, dtype=np.int8)
