"""Continuations of many contexts by greedy or beam search, batched."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from fallow.errors import UserError
from fallow.evaluate.decoding import Decoding
from fallow.evaluate.modes import evaluating

Progress = Callable[[int, int], None]
"""Called after each batch with the number of prompts done and of all."""


def generate_pairs(
    model: Any,
    tokenizer: Any,
    contexts: Sequence[str],
    decoding: Decoding,
    *,
    encode: Callable[[str], Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """The text that a model tuned on pairs generates for each context, in the order of `contexts`.

    A prompt is the context followed by the end token, as in training. A context that occurs several times (one row per
    reference, as data sets are written) is decoded once. `decoding.max_contexts` plays no role here: choose first, with
    `spread`.

    Args:
        model: a Hugging Face causal language model, stock or converted.
        tokenizer: its tokenizer; its end token separates context and target and ends a text.
        contexts: texts, repeated or not.
        decoding: beams, lengths, batch size.
        encode: context -> prompt tokens, when the data set does it in a way of its own.
        progress: see `Progress`.

    Raises:
        UserError: the tokenizer has no end token or more tokens than the model, or a prompt leaves no room.
    """
    check_vocabulary(model, tokenizer)
    eos = end_token(tokenizer)
    distinct = list(dict.fromkeys(contexts))
    prompts = [encode(text) if encode is not None else encode_context(tokenizer, text) for text in distinct]
    generated = generate_tokens(model, prompts, decoding, eos=eos, progress=progress)
    texts = [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in generated]
    by_context = dict(zip(distinct, texts, strict=True))
    return [by_context[text] for text in contexts]


def encode_context(tokenizer: Any, context: str) -> list[int]:
    """Tokens of a context and the end token that separates it from its target."""
    return [*tokenizer(context, add_special_tokens=False)["input_ids"], end_token(tokenizer)]


def generate_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    eos: int,
    progress: Progress | None = None,
) -> list[list[int]]:
    """New tokens for each prompt, without the end token; Hugging Face's `generate` does the search.

    Prompts of similar length share a batch, padded on the left; padding is masked and does not shift positions, so a
    text does not depend on its neighbours. Sampling and penalties that the model's folder may ask for are not used.
    Near the end of the model's positions fewer tokens are generated than `max_new_tokens`.
    """
    device = next(model.parameters()).device
    results: list[list[int]] = [[] for _ in prompts]
    done = 0
    with evaluating(model), _own_settings(model):
        for batch, room in _batches(prompts, decoding, positions_of(model)):
            width = max(len(prompts[i]) for i in batch)
            ids = torch.full((len(batch), width), eos, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(batch):
                ids[row, width - len(prompts[i]) :] = torch.as_tensor(list(prompts[i]), dtype=torch.long)
                mask[row, width - len(prompts[i]) :] = 1
            output = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=_settings(decoding, room, eos),
            )
            for i, row in zip(batch, output[:, width:].tolist(), strict=True):
                results[i] = row[: row.index(eos)] if eos in row else row
            done += len(batch)
            if progress is not None:
                progress(done, len(prompts))
    return results


def positions_of(model: Any) -> int:
    """How many positions the model was made for; 0 when its config does not say."""
    return int(getattr(model.config, "max_position_embeddings", 0) or 0)


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


def _batches(prompts: Sequence[Sequence[int]], decoding: Decoding, positions: int) -> Iterator[tuple[list[int], int]]:
    """Batches of similar length, longest first (so that memory runs out at once or never), and their new tokens."""
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


def _settings(decoding: Decoding, room: int, eos: int) -> Any:
    from transformers import GenerationConfig

    beams = {"length_penalty": decoding.length_penalty} if decoding.num_beams > 1 else {}
    return GenerationConfig(
        do_sample=False,
        num_beams=decoding.num_beams,
        max_new_tokens=room,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        eos_token_id=eos,
        pad_token_id=eos,
        **beams,
    )


@contextmanager
def _own_settings(model: Any) -> Iterator[None]:
    """Hide the settings in the model's folder, which `generate` would mix with ours."""
    from transformers import GenerationConfig

    before = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before
