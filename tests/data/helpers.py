"""Texts and data sets whose content is known."""

from collections.abc import Sequence

import numpy as np

from fallow.data.batch import Batch, Sample, collate

WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "omicron",
    "sigma",
    "upsilon",
    "cardinal",
    "harvest",
    "meadow",
    "furrow",
    "clover",
    "barley",
    "stubble",
    "orchard",
    "granary",
    "threshing",
    "windmill",
    "pasture",
]


def story(number: int, num_words: int = 60) -> str:
    """A text that differs for each number."""
    return " ".join(
        WORDS[(number * 7 + i * i) % len(WORDS)] + str((number + i) % 9) * (i % 3 == 0) for i in range(num_words)
    )


class Numbers:
    """A data set whose sample i is the number i: shows which samples were drawn."""

    context, name = 4, "numbers"
    mean_length = 4.0

    def __init__(self, size: int, first: int = 0) -> None:
        self.size, self.first = size, first

    def __len__(self) -> int:
        return self.size

    def sample(self, index: int) -> Sample:
        row = np.full(4, self.first + index, dtype=np.int64)
        return row, row

    @property
    def fingerprint(self) -> str:
        return f"{self.size} from {self.first}"

    def collate(self, samples: Sequence[Sample], ids: Sequence[str | int] = ()) -> Batch:
        return collate(samples, ids)
