"""Fine-tuning of the last blocks."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fallow.errors import UserError
from fallow.linear import Site, Terms
from fallow.methods.adapted import is_head
from fallow.methods.base import Method
from fallow.random import Key

_BLOCK = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Top(Method):
    """Training of the last blocks of a model as they are: the baseline FT-Top2 of LoRA and DSEE.

    Everything below is frozen, and needs no backward pass either. A task's new head is trained.

    >>> sorted(Top(blocks=1).trainable(["h.0.fc.weight", "h.1.fc.weight", "ln_f.weight", "score.weight"]))
    ['h.1.fc.weight', 'score.weight']

    The published 25.19M of GPT-2 Medium is two blocks without the last norm, which is what this trains.
    """

    name: ClassVar[str] = "top"

    blocks: int = 2
    """How many of the last blocks are trained: 2 in the papers."""

    def __post_init__(self) -> None:
        """Check the number."""
        Method.__post_init__(self)
        if self.blocks < 1:
            raise UserError(f"blocks is {self.blocks}, but it must be at least 1")

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """No terms: the stock layers stay."""
        return {}

    def trainable(self, names: Iterable[str]) -> set[str]:
        """The parameters of the last blocks, and the head of a task."""
        listed = list(names)
        numbers = {name: int(found[1]) for name in listed if (found := _BLOCK.search(name))}
        num = max(numbers.values(), default=-1) + 1
        if self.blocks > num:
            raise UserError(f"blocks is {self.blocks}, but the model has {num}")
        return {name for name in listed if numbers.get(name, -1) >= num - self.blocks or is_head(name)}
