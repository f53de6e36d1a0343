"""What a model generates from: token ids of contexts, in batches of similar length."""

from collections.abc import Iterator, Sequence
from typing import Any

from fallow.errors import UserError
from fallow.evaluate.decoding import Decoding
from fallow.stock import tokenizing
from fallow.tuners.prefix import prefix_of


def encode_context(tokenizer: Any, context: str) -> list[int]:
    """Tokens of a context and the end token that separates it from its target."""
    return [*encode_text(tokenizer, context, add_special_tokens=False), end_token(tokenizer)]


def encode_text(tokenizer: Any, text: str, *, add_special_tokens: bool = True) -> list[int]:
    """Tokens of a text, with those that the tokenizer puts around it or without."""
    with tokenizing():
        return list(tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])


def end_token(tokenizer: Any) -> int:
    """The id of the end token."""
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end token (eos_token), so a context cannot be separated from its text")
    return int(tokenizer.eos_token_id)


def check_vocabulary(model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer with more tokens than the model has embeddings: it belongs to another model."""
    known, rows = len(tokenizer), int(model.get_input_embeddings().weight.shape[0])
    if known > rows:
        raise UserError(
            f"the tokenizer has {known:,} tokens, but the model knows only {rows:,}: it is the wrong tokenizer for "
            "this model. Use the one that the model was trained with"
        )


def positions_of(model: Any) -> int:
    """How many tokens of a sequence the model has positions for; 0 when its config does not say.

    RoBERTa begins to count behind its padding: of 514 rows, 512 are positions of tokens. Virtual tokens of a prefix
    take positions, too.
    """
    rows = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    tables = (part for name, part in model.named_modules() if name.endswith("embeddings.position_embeddings"))
    skipped = next((int(part.padding_idx) + 1 for part in tables if part.padding_idx is not None), 0)
    prefix = prefix_of(model)
    return rows - skipped - (prefix.length if prefix is not None else 0) if rows else 0


def batches(prompts: Sequence[Sequence[int]], decoding: Decoding, positions: int) -> Iterator[tuple[list[int], int]]:
    """Numbers of prompts that are decoded together, and how many tokens they may get.

    Prompts of similar length share a batch; the longest come first, so that memory runs out at once or never. Near the
    end of the model's positions fewer tokens are generated than `max_new_tokens`.

    Raises:
        UserError: a prompt is empty, or leaves no room for a text.
    """
    room = [min(decoding.max_new_tokens, positions - len(p)) if positions else decoding.max_new_tokens for p in prompts]
    full = [i for i, left in enumerate(room) if left < 1]
    if full:
        longest = max(len(prompts[i]) for i in full)
        raise UserError(
            f"{len(full)} of {len(prompts)} contexts leave no room for a text: the longest has {longest} tokens and "
            f"the model {positions} positions. Cut or drop long contexts (data setting overflow), or use a longer model"
        )
    if any(len(prompt) == 0 for prompt in prompts):
        raise UserError("a prompt has no tokens. Give at least one character")
    batch: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i)):
        if batch and (len(batch) == decoding.batch_size or room[i] != room[batch[0]]):
            yield batch, room[batch[0]]
            batch = []
        batch.append(i)
    if batch:
        yield batch, room[batch[0]]
