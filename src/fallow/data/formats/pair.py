"""A pair, and the one way slots and triples are written as text."""

from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["train", "valid", "test"]
"""What a file is used for."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What is given and what is to be written. Several pairs may share a context: they are its references."""

    context: str
    target: str


def linearise(fields: list[list[str]]) -> str:
    """Slots or triples as one line: parts joined by blank-colon-blank, entries by blank-bar-blank.

    >>> linearise([["name", "The Vaults"], ["eatType", "pub"]])
    'name : The Vaults | eatType : pub'
    """
    return " | ".join(" : ".join(parts) for parts in fields)


def are_triples(value: Any) -> bool:
    """Whether a value from JSON is a list, not empty, of lists of three texts.

    >>> are_triples([["a", "b", "c"]]), are_triples("abc"), are_triples([])
    (True, False, False)
    """
    return (
        type(value) is list
        and bool(value)
        and all(type(one) is list and len(one) == 3 and all(type(part) is str for part in one) for one in value)
    )
