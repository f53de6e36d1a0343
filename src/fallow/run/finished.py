"""A trained stage before it is judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fallow.data.batch import Dataset
from fallow.data.splits import Splits
from fallow.run.stage import Stage


@dataclass(frozen=True, slots=True)
class Finished:
    """What a judgement needs to know."""

    model: nn.Module
    """Merged, on the device of training."""

    tokenizer: Any

    stage: Stage

    splits: Splits

    folder: Path
    """Of the stage."""

    say: Callable[[str], None]
    """Tells the user a line."""

    @property
    def split(self) -> str:
        """What the model is judged on: `test` where the data has such a part, else `validation`."""
        return "validation" if self.splits.test is None else "test"

    @property
    def held_out(self) -> Mapping[str, Dataset]:
        """The data sets of that split, by name; none when nothing was held out."""
        return self.splits.valid if self.splits.test is None else {self.splits.test.name: self.splits.test}
