"""The E2E data set (Novikova et al., 2017): restaurant descriptions from slots."""

import re
from pathlib import Path

from fallow.data.formats.pair import Pair, linearise, read_table
from fallow.errors import UserError

_SLOT = re.compile(r"\s*([^\[\],]+)\[([^\]]*)\],?")


def read_e2e(path: Path) -> list[Pair]:
    """One pair for each row of a CSV of the official release, with columns `mr` and `ref`.

    A meaning representation `name[The Vaults], eatType[pub]` becomes `name : The Vaults | eatType : pub`.

    Differs from LoRA's released files: slot names and texts are those of the official release, neither renamed
    (`eatType`, not `Type`) nor split into tokens.
    """
    pairs = []
    for number, row in enumerate(read_table(path), start=2):
        if "mr" not in row:
            raise UserError(f"{path} has no column mr. It has: {', '.join(row)}. Is it an E2E file?")
        if "ref" not in row:
            raise UserError(
                f"{path} has no column ref (texts). For the test set name testset_w_refs.csv, not testset.csv."
            )
        slots = [[name.strip(), value.strip()] for name, value in _SLOT.findall(row["mr"])]
        if not slots:
            raise UserError(f"{path}: entry {number} has no slots such as name[The Vaults], but: {row['mr'][:40]!r}.")
        pairs.append(Pair(linearise(slots), row["ref"].strip()))
    return pairs
