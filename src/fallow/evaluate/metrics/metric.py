"""A metric of a profile, and what it gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fallow.evaluate.metrics.corpus import Corpus


class AbsentError(Exception):
    """A metric cannot be computed on this machine; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The score of a corpus and, where they are defined and were asked for, of each hypothesis."""

    value: float
    segments: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By key; most metrics give one under their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One number of a profile."""

    key: str
    compute: Callable[[Corpus, bool], Measured]
    """From the texts, and whether scores of single hypotheses are wanted."""

    variant: str
    """What exactly it is."""

    scale: str = "0 to 1"
    official: bool = True
    """Whether the evaluation of this profile has it. What has not is given besides, for comparisons of one's own."""
