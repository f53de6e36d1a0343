"""The E2E data set (Novikova et al., 2017): restaurant descriptions from slots."""

from pathlib import Path

from fallow.data.formats.pair import Pair, linearise
from fallow.data.formats.table import read_table
from fallow.errors import UserError


def read_e2e(path: Path) -> list[Pair]:
    """One pair for each row of a CSV of the official release, with columns `mr` and `ref`.

    A meaning representation `name[The Vaults], eatType[pub]` becomes `name : The Vaults | eatType : pub`.

    Differs from LoRA's released files: slot names and texts are those of the official release, neither renamed
    (`eatType`, not `Type`) nor split into tokens.

    Raises:
        UserError: no such column, or a row without slots or text; names the line.
    """
    pairs = []
    for line, row in read_table(path):
        if "mr" not in row:
            raise UserError(f"{path} has no column mr. It has: {', '.join(row)[:200]}. Is it an E2E file?")
        if "ref" not in row:
            raise UserError(
                f"{path} has no column ref (texts). For the test set name testset_w_refs.csv, not testset.csv."
            )
        slots = _slots(row["mr"])
        if not slots:
            raise UserError(
                f"{path}:{line} has no slots such as name[The Vaults], eatType[pub], but: {row['mr'][:40]!r}. Mend it."
            )
        text = row["ref"].strip()
        if not text:
            raise UserError(f"{path}:{line} has no text in ref. Get the file again, or remove the row.")
        pairs.append(Pair(linearise(slots), text))
    return pairs


def _slots(representation: str) -> list[list[str]]:
    """Name and value of each slot; empty where the text is anything but `name[value], name[value]`."""
    slots, rest = [], representation.strip()
    while rest:
        name, opened, rest = rest.partition("[")
        value, closed, rest = rest.partition("]")
        if not (name.strip() and opened and closed) or "," in name or "]" in name or "[" in value:
            return []
        slots.append([name.strip(), value.strip()])
        rest = rest.lstrip()
        if rest and not rest.startswith(","):
            return []
        rest = rest[1:].lstrip()
    return slots
