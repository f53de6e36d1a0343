"""A pair, and the one way triples and tables are written as text."""

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fallow.data.files import read_lines
from fallow.errors import UserError

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


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file (plain or .gz) with a header, keys in lower case.

    Raises:
        UserError: not UTF-8, damaged, or without a row.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # articles are longer than the default of 128 KB
    lines = (line.removeprefix("\ufeff") if number == 1 else line for number, line in read_lines(path))
    reader = csv.DictReader(lines)
    if not reader.fieldnames:
        raise UserError(f"{path} is empty. Get the file again.")
    try:
        for row in reader:
            yield {key.strip().lower(): value or "" for key, value in row.items() if isinstance(key, str)}
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num} is not CSV ({error}).") from None
