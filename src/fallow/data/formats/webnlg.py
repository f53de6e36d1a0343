"""WebNLG 2017 (Gardent et al., 2017): texts from triples of DBpedia."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fallow.data.files import parse_json_lines
from fallow.data.formats.pair import Pair, Role, linearise
from fallow.errors import UserError

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
            yield from _parse(file.read_bytes(), str(file))
    elif path.name.endswith((".tar.gz", ".tgz", ".tar")):
        yield from _from_tar(path, role)
    elif path.suffix == ".xml":
        yield from _parse(path.read_bytes(), str(path))
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _from_jsonl(path)
    else:
        raise UserError(f"{path} is not WebNLG: name a .jsonl(.gz), an .xml, the folder or the .tar.gz of the release.")


def _belongs(name: str, role: Role) -> bool:
    return name.endswith(".xml") and f"/{_PARTS[role]}" in f"/{name}"


def _from_tar(path: Path, role: Role) -> Iterator[_Entry]:
    found = False
    try:
        with tarfile.open(path) as tar:
            members = [member for member in tar.getmembers() if member.isfile() and _belongs(member.name, role)]
            for member in sorted(members, key=lambda member: member.name):
                file = tar.extractfile(member)
                assert file is not None  # it is a regular file
                found = True
                yield from _parse(file.read(), f"{path}:{member.name}")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}). Get the file again.") from None
    if not found:
        raise UserError(f"{path} holds no {_PARTS[role]} of WebNLG 2017.")


def _parse(raw: bytes, where: str) -> Iterator[_Entry]:
    try:
        root = ElementTree.fromstring(raw)
    except ElementTree.ParseError as error:
        raise UserError(f"{where} is not XML ({error}).") from None
    for entry in root.iter("entry"):
        triples = [
            [part.strip() for part in (triple.text or "").split(" | ", 2)]
            for triple in entry.iterfind("modifiedtripleset/mtriple")
        ]
        texts = [(lex.get("comment") or "", lex.text or "") for lex in entry.iterfind("lex")]
        yield _Entry(entry.get("category") or "", triples, texts)


def _from_jsonl(path: Path) -> Iterator[_Entry]:
    for number, row in parse_json_lines(path):
        fields: dict[str, Any] = row
        try:
            texts = [(lex["comment"], lex["text"]) for lex in fields["lexs"]]
            yield _Entry(fields["category"], fields["triples"], texts)
        except (KeyError, TypeError):
            raise UserError(f"{path}:{number} is not a WebNLG entry: it needs category, triples, lexs.") from None
