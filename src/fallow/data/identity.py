"""What data consists of: the SHA-256 of each file that is read, to notice what has changed since."""

import hashlib
import sys
from pathlib import Path

from fallow.data.files import content_facts, is_folder_of_shards
from fallow.data.index import INDEX
from fallow.data.settings import ClassificationData, Data, PairData, TextSource
from fallow.integrity import checksum

PAIR_ROLES = ("train", "valid", "test")


def data_facts(data: Data) -> dict[str, str]:
    """The checksum of every file of a data set, by the setting that names it and its name below that path.

    What is no file is known by what makes it: text of the Python installation by its version, a data set of the Hub by
    its name alone. Shards are known by their index, which has the checksums of the others.

    Args:
        data: with its paths as they are opened.
    """
    found: dict[str, str] = {}
    for key, path in data_paths(data):
        found |= {f"{key} {name}": known for name, known in _facts(path, is_text=not _is_rows(data)).items()}
    return found


def data_paths(data: Data) -> list[tuple[str, str]]:
    """(Setting, path) of everything that a data set reads, in the order of the settings."""
    if isinstance(data, PairData):
        if data.format == "embedded":
            return [("format", "embedded:docstrings")]
        found = [(key, str(getattr(data, key))) for key in PAIR_ROLES]
    elif isinstance(data, ClassificationData):
        found = [(f"{role}.{i}", path) for role, files in data.roles().items() for i, path in enumerate(files)]
    else:
        groups: tuple[tuple[str, tuple[TextSource, ...]], ...] = (("sources", data.sources), ("valid", data.valid))
        found = [(f"{key}.{i}.path", source.path) for key, group in groups for i, source in enumerate(group)]
    return [(key, path) for key, path in found if path]


def _is_rows(data: Data) -> bool:
    return isinstance(data, PairData | ClassificationData)


def _facts(path: str, *, is_text: bool) -> dict[str, str]:
    if path.startswith(("embedded:", "hub:")):
        version = sys.version if path.startswith("embedded:") else ""
        return {path: hashlib.sha256(f"{path} {version}".encode()).hexdigest()}
    place = Path(path)
    if is_text and is_folder_of_shards(place):
        return {INDEX: checksum(place / INDEX)}
    if is_text:
        return content_facts(place)
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.is_file())
        return {file.relative_to(place).as_posix(): checksum(file) for file in files}
    return {place.name: checksum(place)} if place.exists() else {}
