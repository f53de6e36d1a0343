"""DART v1.1.1 (Nan et al., 2021): texts from triples of tables, WebNLG and E2E."""

import json
from pathlib import Path

from fallow.data.files import decode, open_binary
from fallow.data.formats.pair import Pair, linearise
from fallow.errors import UserError


def read_dart(path: Path) -> list[Pair]:
    """One pair for each annotation of a JSON file (plain or .gz); triples as subject : relation : object.

    The relation is written in lower case, as in LoRA's pipeline; all annotations are kept.

    Raises:
        UserError: not of this form.
    """
    try:
        with open_binary(path) as file:
            entries = json.loads(decode(file.read(), path))
    except (json.JSONDecodeError, EOFError, OSError) as error:
        raise UserError(f"{path} is not JSON ({error}). Name the .json file of DART, not the .xml one.") from None
    pairs = []
    for number, entry in enumerate(entries):
        try:
            triples = [[subject, relation.lower(), value] for subject, relation, value in entry["tripleset"]]
            pairs += [Pair(linearise(triples), note["text"].strip()) for note in entry["annotations"]]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UserError(f"{path}: entry {number} is not of DART's form (tripleset, annotations).") from None
    return pairs
