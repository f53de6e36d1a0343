"""DART v1.1.1 (Nan et al., 2021): texts from triples of tables, WebNLG and E2E."""

from pathlib import Path
from typing import Any

from fallow.data.formats.pair import Pair, are_triples, linearise
from fallow.data.json_lines import read_json
from fallow.errors import UserError
from fallow.json_text import kind


def read_dart(path: Path) -> list[Pair]:
    """One pair for each annotation of a JSON file (plain or .gz); triples as subject : relation : object.

    The relation is written in lower case, as in LoRA's pipeline; all annotations are kept, the empty one of the
    published test set, too.

    Raises:
        UserError: not of this form.
    """
    entries = read_json(path)
    if type(entries) is not list:
        raise UserError(f"{path} holds {kind(entries)}, but DART is a list of entries. Name the .json file of DART.")
    pairs = []
    for number, entry in enumerate(entries):
        triples, notes = _parts(entry)
        if not triples or not notes:
            raise UserError(
                f"{path}: entry {number} is not of DART's form: tripleset, a list of lists of three texts, and "
                "annotations, a list of objects with a text. Get the file again."
            )
        context = linearise([[subject, relation.lower(), value] for subject, relation, value in triples])
        pairs += [Pair(context, text) for text in notes]
    return pairs


def _parts(entry: Any) -> tuple[list[list[str]], list[str]]:
    """Triples and texts of an entry; nothing where it is of another form."""
    if type(entry) is not dict or not are_triples(entry.get("tripleset")) or type(entry.get("annotations")) is not list:
        return [], []
    texts: list[Any] = [note.get("text") if type(note) is dict else None for note in entry["annotations"]]
    if not all(type(text) is str for text in texts):
        return [], []
    return entry["tripleset"], [text.strip() for text in texts]
