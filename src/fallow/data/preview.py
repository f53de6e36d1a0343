"""Looking at examples: which tokens a sequence holds, where documents end, and on which of them the loss is taken."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fallow.data.batch import IGNORE, Dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Kind = Literal["read", "loss", "end"]
"""A stretch that is only read, one that the loss is taken on, or the end token of a document."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring tokens of one kind.

    Attributes:
        kind: `read`, `loss`, or `end`.
        loss: whether the loss is taken on predicting these tokens.
        ids: the tokens.
        text: what they read as.
    """

    kind: Kind
    loss: bool
    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence, from its first input to its last label.

    Attributes:
        index: its number in the data set.
        num_tokens: inputs.
        num_valid: positions with a loss.
        num_ends: end tokens in it.
        stretches: the tokens, in order.
    """

    index: int
    num_tokens: int
    num_valid: int
    num_ends: int
    stretches: tuple[Stretch, ...]


def preview(dataset: Dataset, tokenizer: "PreTrainedTokenizerFast", indices: Sequence[int]) -> Iterator[Example]:
    """Some sequences of a data set, cut into stretches.

    The tokens shown are the inputs and the last label; a token counts as `loss` when some position predicts it.
    """
    eos = tokenizer.eos_token_id
    for index in indices:
        inputs, labels = dataset.sample(index)
        last = tokenizer.eos_token_id if labels[-1] == IGNORE else int(labels[-1])
        tokens = [*inputs.tolist(), last]
        predicted = [False, *(labels != IGNORE).tolist()]  # nothing predicts the first token
        kinds: list[Kind] = []
        for token, loss in zip(tokens, predicted, strict=True):
            kinds.append("end" if token == eos else "loss" if loss else "read")
        stretches = tuple(_stretches(tokenizer, tokens, predicted, kinds))
        yield Example(index, len(inputs), int((labels != IGNORE).sum()), kinds.count("end"), stretches)


def _stretches(
    tokenizer: "PreTrainedTokenizerFast", tokens: list[int], predicted: list[bool], kinds: list[Kind]
) -> Iterator[Stretch]:
    begin = 0
    for end in range(1, len(tokens) + 1):
        if end == len(tokens) or kinds[end] != kinds[begin] or predicted[end] != predicted[begin]:
            ids = tokens[begin:end]
            yield Stretch(kinds[begin], predicted[begin], tuple(ids), str(tokenizer.decode(ids)))
            begin = end
