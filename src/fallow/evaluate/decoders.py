"""Who searches for the text: transformers, or our own search by the rules of a published pipeline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fallow.evaluate.beam import beam_search
from fallow.evaluate.prompts import encode_text, end_token
from fallow.evaluate.search import generate_search

BLANK_LINE = "\n\n"


@dataclass(frozen=True, slots=True)
class Decoder:
    """What belongs together in a pipeline: how it searches, where a text ends, and how tokens become text."""

    search: Callable[..., list[list[int]]]
    """(model, prompts, decoding, room=, stops=) -> new tokens of each prompt, without the stop token."""

    stops: Callable[[Any], list[int]]
    """tokenizer -> ids that end a text, the end token first."""

    text: Callable[[Any, Sequence[int]], str]
    """(tokenizer, tokens) -> text."""


def _end(tokenizer: Any) -> list[int]:
    return [end_token(tokenizer)]


def _end_or_blank_line(tokenizer: Any) -> list[int]:
    """The end token, and the token of a blank line where the tokenizer has one: 50256 and 628 with GPT-2's."""
    blank = encode_text(tokenizer, BLANK_LINE, add_special_tokens=False)
    return [end_token(tokenizer), *(blank if len(blank) == 1 else [])]


def _plain(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


def _first_paragraph(tokenizer: Any, tokens: Sequence[int]) -> str:
    return _plain(tokenizer, tokens).split(BLANK_LINE)[0]


DECODERS: dict[str, Decoder] = {
    "generate": Decoder(generate_search, _end, _plain),
    "lora": Decoder(beam_search, _end_or_blank_line, _first_paragraph),
}
"""By the name in `Decoding.decoder`."""
