"""Readers of published pair data sets: one file a format, pairs in the order of the file."""

from collections.abc import Callable
from pathlib import Path

from fallow.data.formats.curation import read_curation
from fallow.data.formats.dart import read_dart
from fallow.data.formats.docstrings import read_docstrings
from fallow.data.formats.e2e import read_e2e
from fallow.data.formats.jsonl import read_jsonl
from fallow.data.formats.pair import Pair, Role
from fallow.data.formats.webnlg import read_webnlg
from fallow.data.settings import PairData
from fallow.errors import UserError

__all__ = ["Pair", "Role", "read_pairs"]

_HOMES = {
    "e2e": "the official release is at github.com/tuetschek/e2e-dataset",
    "webnlg": "the official release is at gitlab.com/shimorina/webnlg-dataset, release_v1 of 2017",
    "dart": "the official release is at github.com/Yale-LILY/dart",
    "curation": "the official release is at github.com/CurationCorp/curation-corpus",
}


def read_pairs(settings: PairData, role: Role, cache: Path) -> list[Pair]:
    """The pairs of one role, in their template; an empty list when the settings name no file for it.

    Args:
        settings: format and files.
        role: train, valid or test.
        cache: folder where pairs that take long to make are kept.

    Raises:
        UserError: the file does not exist, or is not of this format.
    """
    pairs = _read(settings, role, cache)
    if not settings.template:
        return pairs
    before, after = settings.template.split("{context}")
    return [Pair(f"{before}{pair.context}{after}", pair.target) for pair in pairs]


def _read(settings: PairData, role: Role, cache: Path) -> list[Pair]:
    if settings.format == "embedded":
        return read_docstrings(role, cache)
    if not getattr(settings, role):
        return []
    path = Path(getattr(settings, role))
    if not path.exists():
        home = f" ({_HOMES[settings.format]})" if settings.format in _HOMES else ""
        raise UserError(f"{role} is {path}, which does not exist{home}.")
    readers: dict[str, Callable[[], list[Pair]]] = {
        "e2e": lambda: read_e2e(path),
        "webnlg": lambda: read_webnlg(path, role, settings.subset if role == "test" else "all"),
        "dart": lambda: read_dart(path),
        "curation": lambda: read_curation(path),
        "jsonl": lambda: read_jsonl(path, settings.context_field, settings.target_field, settings.references_field),
    }
    pairs = readers[settings.format]()
    if not pairs:
        raise UserError(f"{path} holds no pair of a context and a target.")
    return pairs
