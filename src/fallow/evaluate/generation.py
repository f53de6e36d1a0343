"""Texts for many contexts: each distinct one decoded once, in batches, continued where an earlier attempt ended."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from fallow.evaluate.decoders import DECODERS
from fallow.evaluate.decoding import Decoding
from fallow.evaluate.modes import evaluating
from fallow.evaluate.progress import Progress
from fallow.evaluate.prompts import batches, check_vocabulary, encode_context, positions_of
from fallow.evaluate.transcript import Generated, Transcript


def generate_pairs(
    model: Any,
    tokenizer: Any,
    contexts: Sequence[str],
    decoding: Decoding,
    *,
    encode: Callable[[str], Sequence[int]] | None = None,
    progress: Progress | None = None,
    transcript: Transcript | None = None,
) -> list[str]:
    """The text that a model tuned on pairs generates for each context, in the order of `contexts`.

    A prompt is the context followed by the end token, as in training. A context that occurs several times (one row per
    reference, as data sets are written) is decoded once. `decoding.max_contexts` plays no role here: choose first, with
    `spread`.

    Args:
        model: a Hugging Face causal language model, stock or converted.
        tokenizer: its tokenizer; its end token separates context and target and ends a text.
        contexts: texts, repeated or not.
        decoding: decoder, beams, lengths, batch size.
        encode: context -> prompt tokens, when the data set does it in a way of its own.
        progress: see `Progress`.
        transcript: texts are written there as they come, and those that are there already are not decoded again. It is
            left in the order of `contexts`.

    Raises:
        UserError: the tokenizer has no end token or more tokens than the model, or a prompt leaves no room.
    """
    found = generate_texts(
        model,
        tokenizer,
        contexts,
        decoding,
        encode=encode or partial(encode_context, tokenizer),
        clean=str.strip,
        progress=progress,
        transcript=transcript,
    )
    return [generated.text for generated in found]


def generate_texts(
    model: Any,
    tokenizer: Any,
    contexts: Sequence[str],
    decoding: Decoding,
    *,
    encode: Callable[[str], Sequence[int]],
    clean: Callable[[str], str] = str,
    progress: Progress | None = None,
    transcript: Transcript | None = None,
) -> list[Generated]:
    """The same for prompts of any kind: `encode` says what the model sees, `clean` what is done to a text."""
    check_vocabulary(model, tokenizer)
    decoder = DECODERS[decoding.decoder]
    stops = decoder.stops(tokenizer)
    distinct = list(dict.fromkeys(contexts))
    prompts = [list(encode(context)) for context in distinct]
    kept = Transcript(None, {}) if transcript is None else transcript
    done = sum(prompt in kept for prompt in prompts)
    for batch, found in _decoded(model, prompts, decoding, stops, kept):
        done += sum(prompts[i] not in kept for i in batch)
        texts = [Generated(clean(decoder.text(tokenizer, tokens)), len(tokens)) for tokens in found]
        kept.add([(prompts[i], distinct[i], text) for i, text in zip(batch, texts, strict=True)])
        if progress is not None:
            progress(done, len(prompts))
    kept.sort(prompts)
    by_context = {context: kept[prompt] for context, prompt in zip(distinct, prompts, strict=True)}
    return [by_context[context] for context in contexts]


def generate_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    stops: Sequence[int],
    progress: Progress | None = None,
) -> list[list[int]]:
    """New tokens for each prompt, without the stop token, in the order of `prompts`.

    Args:
        model: a Hugging Face causal language model, stock or converted.
        prompts: token ids, none empty.
        decoding: decoder, beams, lengths, batch size.
        stops: ids that end a text, the end token first; see `fallow.evaluate.decoders`.
        progress: see `Progress`.
    """
    results: list[list[int]] = [[] for _ in prompts]
    done = 0
    for batch, found in _decoded(model, prompts, decoding, stops, ()):
        for i, tokens in zip(batch, found, strict=True):
            results[i] = tokens
        done += len(batch)
        if progress is not None:
            progress(done, len(prompts))
    return results


def _decoded(
    model: Any, prompts: Sequence[Sequence[int]], decoding: Decoding, stops: Sequence[int], known: Any
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Batches and their tokens. One whose prompts are all known is left out; the others are made up as if none were."""
    search = DECODERS[decoding.decoder].search
    with evaluating(model):
        for batch, room in list(batches(prompts, decoding, positions_of(model))):
            if any(prompts[i] not in known for i in batch):
                yield batch, search(model, [prompts[i] for i in batch], decoding, room=room, stops=stops)
