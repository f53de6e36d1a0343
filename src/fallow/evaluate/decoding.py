"""How continuations are generated."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from fallow.config import Natural, Within, check_bounds
from fallow.errors import UserError, unknown

DECODER_NAMES = ("generate", "lora")

_BEAMS = "every beam holds a text of its own and all that attention remembers of it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """Greedy or beam search, one continuation for each distinct context.

    >>> Decoding(num_beams=4, length_penalty=0.9).num_beams
    4
    """

    decoder: Literal["generate", "lora"] = "generate"
    """Who searches. `generate`: transformers. `lora`: our own search by the rules of the code released with LoRA, whose
    pipeline DSEE and SPDF follow: n-grams are banned in the generated text only and before the softmax, a text ends at
    the end token or a blank line, and beams that end leave their place empty for a step."""

    num_beams: Annotated[int, Within(1, 1000, _BEAMS)] = 1
    """Beams kept at each position. 1 is greedy search; the papers on data-to-text use 10. Time grows in proportion."""

    max_new_tokens: Annotated[int, Within(1, 1_000_000)] = 64
    """Most tokens generated after the context, the end token included."""

    length_penalty: float = 1.0
    """A beam's log-probability is divided by (generated length) ** length_penalty: below 1 prefers shorter texts."""

    no_repeat_ngram_size: Natural = 0
    """No n-gram of this many tokens occurs twice, in context and text together (generate) or in the text (lora). 0
    allows all."""

    batch_size: Annotated[int, Within(1, 1_000_000)] = 16
    """Contexts decoded together. Changes speed and memory only."""

    max_contexts: Natural = 0
    """Decode only this many contexts, evenly spread over the data set; 0 decodes all. Reports say what share it was."""

    def __post_init__(self) -> None:
        if self.decoder not in DECODER_NAMES:
            raise unknown("decoder", str(self.decoder), DECODER_NAMES)
        check_bounds(self)
        if not math.isfinite(self.length_penalty):
            raise UserError(
                f"length_penalty is {self.length_penalty}, but it must be a finite number, usually 0.8 to 1.2"
            )
        if self.num_beams == 1 and self.length_penalty != 1.0:
            raise UserError(
                f"length_penalty is {self.length_penalty}, but it has no effect with num_beams 1 (greedy search keeps "
                "one text). Remove it, or write num_beams 2 or more"
            )

    def __str__(self) -> str:
        """In words.

        >>> print(Decoding(decoder="lora", num_beams=10, length_penalty=0.8, no_repeat_ngram_size=4))
        lora, 10 beams, length penalty 0.8, no 4-gram twice, at most 64 new tokens
        """
        beams = f"{self.num_beams} beams, length penalty {self.length_penalty:g}" if self.num_beams > 1 else "greedy"
        once = f", no {self.no_repeat_ngram_size}-gram twice" if self.no_repeat_ngram_size else ""
        return f"{self.decoder}, {beams}{once}, at most {self.max_new_tokens} new tokens"
