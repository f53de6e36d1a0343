"""WebNLG 2017 (Gardent et al., 2017): texts from triples of DBpedia."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fallow.data.formats.pair import Pair, Role, are_triples, linearise
from fallow.data.json_lines import parse_json_lines
from fallow.errors import UserError, first_line
from fallow.unpack import bounded, open_binary, read_whole, refuse_damage

SEEN = frozenset(
    ("Astronaut", "Airport", "Monument", "University", "Food")
    + ("SportsTeam", "City", "Building", "WrittenWork", "ComicsCharacter")
)
"""The categories of the training set; the test set has five more."""

_PARTS = {"train": "train/", "valid": "dev/", "test": "test/testdata_with_lex.xml"}


@dataclass(frozen=True, slots=True)
class _Entry:
    category: str
    triples: list[list[str]]
    texts: list[tuple[str, str]]  # comment, text


def read_webnlg(path: Path, role: Role, subset: str = "all") -> list[Pair]:
    """One pair for each text that is marked good, triples as subject : property : object.

    Args:
        path: .jsonl(.gz) with `category`, `triples`, `lexs`; or the original release: its folder, its .tar.gz, or one
            XML file of it.
        role: chooses train/, dev/ or the test file of an original release.
        subset: `seen` or `unseen` takes the entries of the ten training categories or of the others.

    Raises:
        UserError: not of this form.
    """
    pairs = []
    for entry in _entries(path, role):
        if subset != "all" and (entry.category in SEEN) != (subset == "seen"):
            continue
        context = linearise(entry.triples)
        pairs += [Pair(context, text.strip()) for comment, text in entry.texts if comment == "good"]
    return pairs


def _entries(path: Path, role: Role) -> Iterator[_Entry]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*.xml") if _belongs(p.relative_to(path.parent).as_posix(), role))
        if not files:
            raise UserError(
                f"{path} holds no {_PARTS[role]} of WebNLG 2017. Name the folder that holds train, dev and test."
            )
        for file in files:
            yield from _parse(read_whole(file), str(file))
    elif path.name.endswith((".tar.gz", ".tgz", ".tar")):
        yield from _from_tar(path, role)
    elif path.name.endswith((".xml", ".xml.gz")):
        yield from _parse(read_whole(path), str(path))
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _from_jsonl(path)
    else:
        raise UserError(f"{path} is not WebNLG: name a .jsonl(.gz), an .xml, the folder or the .tar.gz of the release.")


def _belongs(name: str, role: Role) -> bool:
    return name.endswith(".xml") and f"/{_PARTS[role]}" in f"/{name}"


def _from_tar(path: Path, role: Role) -> Iterator[_Entry]:
    found = False
    with refuse_damage(path), open_binary(path) as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
        members = [member for member in tar.getmembers() if member.isfile() and _belongs(member.name, role)]
        for member in sorted(members, key=lambda member: member.name):
            file = tar.extractfile(member)
            assert file is not None  # it is a regular file
            found = True
            yield from _parse(bounded(file, f"{path}:{member.name}"), f"{path}:{member.name}")
    if not found:
        raise UserError(f"{path} holds no {_PARTS[role]} of WebNLG 2017. Name its release of 2017.")


def _parse(raw: bytes, where: str) -> Iterator[_Entry]:
    try:
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter: an encoding it does not know
        raise UserError(f"{where} is not XML ({first_line(error)}). Get the file again.") from None
    for number, entry in enumerate(root.iter("entry"), start=1):
        triples = [
            [part.strip() for part in (triple.text or "").split(" | ", 2)]
            for triple in entry.iterfind("modifiedtripleset/mtriple")
        ]
        texts = [(lex.get("comment") or "", lex.text or "") for lex in entry.iterfind("lex")]
        yield _checked(entry.get("category"), triples, texts, f"{where}: entry {entry.get('eid') or number}")


def _from_jsonl(path: Path) -> Iterator[_Entry]:
    for number, row in parse_json_lines(path):
        lexs: Any = row.get("lexs")
        texts = [(one.get("comment"), one.get("text")) for one in lexs] if _are_objects(lexs) else None
        yield _checked(row.get("category"), row.get("triples"), texts, f"{path}:{number}")


def _are_objects(value: Any) -> bool:
    return type(value) is list and all(type(one) is dict for one in value)


def _checked(category: Any, triples: Any, texts: Any, where: str) -> _Entry:
    """An entry, when every part of it is of the form that WebNLG has."""
    form = "category (a text), triples (a list of lists of three texts), and lexs (a list of comment and text)"
    if type(category) is not str or texts is None:
        raise UserError(f"{where} is not a WebNLG entry: it needs {form}. Get the file again.")
    if not are_triples(triples):
        raise UserError(f"{where} is not a WebNLG entry: its triples are not lists of three texts. Get the file again.")
    for comment, text in texts:
        if type(comment) is not str or type(text) is not str or (comment == "good" and not text.strip()):
            raise UserError(f"{where} is not a WebNLG entry: one of its texts is missing or empty. Get the file again.")
    return _Entry(category, triples, texts)
