"""Greedy and beam search by transformers' `generate`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from fallow.evaluate.decoding import Decoding


def generate_search(
    model: Any, prompts: Sequence[Sequence[int]], decoding: Decoding, *, room: int, stops: Sequence[int]
) -> list[list[int]]:
    """New tokens for each prompt, without the stop token; Hugging Face's `generate` does the search.

    Prompts are padded on the left; padding is masked and does not shift positions, so a text does not depend on its
    neighbours. Sampling and penalties that the model's folder may ask for are not used.

    Args:
        model: a causal language model in evaluation mode.
        prompts: token ids, none empty; decoded together.
        decoding: beams, penalty and n-grams.
        room: most tokens to generate, the stop token included.
        stops: ids that end a text; the first one also pads.
    """
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), stops[0], dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.as_tensor(list(prompt), dtype=torch.long)
        mask[row, width - len(prompt) :] = 1
    with _own_settings(model):
        output = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            generation_config=_settings(decoding, room, list(stops)),
        )
    return [_before(row, stops) for row in output[:, width:].tolist()]


def _before(tokens: list[int], stops: Sequence[int]) -> list[int]:
    """Tokens up to the first stop token."""
    return next((tokens[:place] for place, token in enumerate(tokens) if token in stops), tokens)


def _settings(decoding: Decoding, room: int, stops: list[int]) -> Any:
    from transformers import GenerationConfig

    beams = {"length_penalty": decoding.length_penalty} if decoding.num_beams > 1 else {}
    return GenerationConfig(
        do_sample=False,
        num_beams=decoding.num_beams,
        max_new_tokens=room,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        eos_token_id=stops,
        pad_token_id=stops[0],
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
