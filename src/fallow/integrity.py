"""Whether files are still those that a record lists: the SHA-256 of each, taken once in a process.

A record is a sealed JSON file (`files.write_sealed`) whose key `files` gives the checksum of each file by its name in
the record's folder. Beside a model that a run has made it is `fallow-stage.json`, beside a tokenizer that a run has
trained `fallow-tokenizer.json`. A folder without a record is taken as it is.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fallow.errors import UserError
from fallow.files import file_sha256, is_temporary, read_sealed

MODEL_RECORD = "fallow-stage.json"
"""Beside a model of a run: how it was trained, and the checksums of its files. Hugging Face ignores it."""

TOKENIZER_RECORD = "fallow-tokenizer.json"
"""Beside a tokenizer that was trained: the checksums of its files."""

FORMAT = 2
"""Of all records with checksums; those of format 1 had none."""

_WEIGHTS = (".safetensors", ".bin")

MARK = "check"
"""Key of a line's checksum in a JSON Lines file that is written in pieces."""

_known: dict[tuple[int, int], tuple[tuple[int, int, int], str]] = {}


def checksum(path: Path) -> str:
    """SHA-256 of a file; one that has not changed since (device, inode, size, times) is not read twice by a process."""
    found = path.stat()
    place, facts = (found.st_dev, found.st_ino), (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    known = _known.get(place)
    if known is None or known[0] != facts:
        known = _known[place] = (facts, file_sha256(path))
    return known[1]


def digest(value: Any) -> str:
    """SHA-256 of plain values, whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def listing(folder: Path) -> dict[str, str]:
    """The checksum of each file in a model's folder by its name, for its record.

    Left out are the record itself, leftovers of writers, and README.md, which nobody reads but people, who edit it.
    """
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        name.as_posix(): checksum(files[name])
        for name in sorted(files)
        if name.name not in ("README.md", MODEL_RECORD) and not any(map(is_temporary, name.parts))
    }


def changed(folder: Path, files: Mapping[str, str]) -> str:
    """The first of these files that is missing or has another checksum, and which of both; empty if all are good."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if checksum(path) != expected:
            return f"{path} was changed or is damaged: it does not have the checksum that was taken when it was written"
    return ""


def read_record(path: Path, hint: str) -> dict[str, Any]:
    """A sealed record with checksums of files.

    Raises:
        UserError: it is damaged, or was written by a fallow that took no checksums.
    """
    record = read_sealed(path, hint, form=FORMAT)
    if not isinstance(record.get("files"), dict):
        raise UserError(f"{path} is damaged (it has no files). {hint}")
    return record


def with_mark(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a JSON Lines file that is written in pieces, with a checksum of itself."""
    return {**line, MARK: _mark(line)}


def has_mark(line: Mapping[str, Any]) -> bool:
    """Whether a line has the checksum that was written with it.

    >>> has_mark(with_mark({"text": "rain"})), has_mark({**with_mark({"text": "rain"}), "text": "ruin"})
    (True, False)
    """
    return line.get(MARK) == _mark({key: value for key, value in line.items() if key != MARK})


def _mark(line: Mapping[str, Any]) -> str:
    return digest(line)[:16]


def check_model(folder: str | Path) -> None:
    """Refuse a model whose files are not those that a run wrote, weights included; without a record, nothing.

    Raises:
        UserError: names the file, and how to use the folder as it is.
    """
    _check(Path(folder), MODEL_RECORD, lambda name: True)


def check_tokenizer(folder: str | Path) -> None:
    """The same for all but the weights, which a tokenizer has nothing to do with.

    Raises:
        UserError: names the file, and how to use the folder as it is.
    """
    for record in (MODEL_RECORD, TOKENIZER_RECORD):
        _check(Path(folder), record, lambda name: not name.endswith(_WEIGHTS))


def _check(folder: Path, name: str, wanted: Callable[[str], bool]) -> None:
    record = folder / name
    if not record.is_file():
        return
    hint = f"Restore it, or remove {record} to use the folder as it is"
    files = read_record(record, hint)["files"]
    if problem := changed(folder, {file: known for file, known in files.items() if wanted(file)}):
        raise UserError(f"{problem}. {hint}")
