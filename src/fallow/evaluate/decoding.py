"""How continuations are generated."""

import math
from dataclasses import dataclass

from fallow.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """Greedy or beam search, one continuation for each distinct context.

    >>> Decoding(num_beams=4, length_penalty=0.9).num_beams
    4
    """

    num_beams: int = 1
    """Beams kept at each position. 1 is greedy search; the papers on data-to-text use 10. Time grows in proportion."""

    max_new_tokens: int = 64
    """Most tokens generated after the context, the end token included."""

    length_penalty: float = 1.0
    """A beam's log-probability is divided by (generated length) ** length_penalty: below 1 prefers shorter texts."""

    no_repeat_ngram_size: int = 0
    """No n-gram of this many tokens occurs twice (context included, as in transformers); 0 allows all."""

    batch_size: int = 16
    """Contexts decoded together. Changes speed and memory only."""

    max_contexts: int = 0
    """Decode only this many contexts, evenly spread over the data set; 0 decodes all. Reports say what share it was."""

    def __post_init__(self) -> None:
        for key, lowest in (
            ("num_beams", 1),
            ("max_new_tokens", 1),
            ("no_repeat_ngram_size", 0),
            ("batch_size", 1),
            ("max_contexts", 0),
        ):
            value = getattr(self, key)
            if value < lowest:
                raise UserError(f"{key} is {value}, but it must be at least {lowest}")
        if not math.isfinite(self.length_penalty):
            raise UserError(
                f"length_penalty is {self.length_penalty}, but it must be a finite number, usually 0.8 to 1.2"
            )
        if self.num_beams == 1 and self.length_penalty != 1.0:
            raise UserError(
                f"length_penalty is {self.length_penalty}, but it has no effect with num_beams 1 (greedy search keeps "
                "one text). Remove it, or write num_beams 2 or more"
            )
