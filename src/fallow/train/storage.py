"""Folders of tensors and JSON with a manifest of checksums, which all processes write together."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from fallow.errors import UserError, first_line
from fallow.files import file_sha256, folder_aside, write_json, write_text
from fallow.shortages import ShortageError, shortage_of
from fallow.train.distributed import Mesh
from fallow.train.tensor_index import INDEX, PICKLED_INDEX, BadIndexError, IndexWriter, TensorReader, described

MANIFEST = "manifest.json"
Tensors = dict[str, torch.Tensor]


class SaveError(Exception):
    """A folder could not be written; what was there before is untouched.

    Args:
        reason: in plain words.
        remedy: what to do before the same command is run again, where something is used up.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason, remedy)
        self.reason, self.remedy, self.is_shortage = reason, remedy or "Make room", bool(remedy)

    def __str__(self) -> str:
        return self.reason


def write_folder(path: Path, tensors: Tensors, files: dict[str, Any], mesh: Mesh) -> None:
    """Write tensors and JSON files as a folder that appears under its name only when all of it is on disk.

    Each process writes its own shards; the main process the rest, with a manifest of sizes and SHA-256 sums.

    Args:
        path: the folder; replaced if there is one.
        tensors: by name; shards of one tensor come together.
        files: JSON values by file name, written by the main process.
        mesh: the processes; all of them call this.

    Raises:
        SaveError: on every process, when any of them fails.
    """
    with ExitStack() as aside:
        made: list[Path] = []
        _together(mesh, path, lambda: made.append(aside.enter_context(folder_aside(path))), main_only=True)
        partial: Path = mesh.broadcast_object(made[0] if made else path)
        _together(mesh, path, lambda: _write_tensors(partial, tensors, mesh))
        _together(mesh, path, lambda: _write_files(partial, files), main_only=True)
        own: dict[str, Any] = {}
        _together(mesh, path, lambda: own.update(_sums(partial, mesh)))
        every = {name: entry for part in mesh.gather(own) for name, entry in part.items()}
        _together(
            mesh, path, lambda: write_json(partial / MANIFEST, {"files": dict(sorted(every.items()))}), main_only=True
        )
        _together(mesh, path, aside.close, main_only=True)


def damage(path: Path, mesh: Mesh) -> str:
    """What is wrong with a folder, the same answer on every process; empty when it is whole.

    Raises:
        UserError: an earlier version wrote it, whose index is a pickle.
    """
    expected: dict[str, Any] = {}
    problem = ""
    try:
        expected = _listed(path)
    except FileNotFoundError:
        problem = f"{MANIFEST} is missing"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
        problem = f"{MANIFEST} cannot be read"
    if PICKLED_INDEX in expected:
        raise UserError(
            f"{path} was written by an earlier version of fallow. Its index is a pickle, which could run code and is "
            "not opened. Finish that run with that version, or begin again with --restart"
        )
    if not problem and INDEX not in expected:
        problem = f"{INDEX} is missing"
    for name in sorted(expected)[mesh.rank :: mesh.world]:
        problem = problem or _damage_of_file(path, name, expected[name])
    problem = next((text for text in mesh.gather(problem) if text), "")
    return problem or mesh.broadcast_object(_damage_of_index(path) if mesh.is_main else "")


def read_json(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def describe_tensors(path: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of each tensor in a folder."""
    entries = described(_reader(path).read_metadata())
    return {name: (entry.size, entry.properties.dtype) for name, entry in entries.items()}


def read_tensors(path: Path, tensors: Tensors, mesh: Mesh) -> None:
    """Fill `tensors` in place from a folder, also one that another number of processes wrote.

    Raises:
        UserError: one of them is not there, has another shape, or is stored as something else.
    """
    try:
        with _quiet():
            load(tensors, storage_reader=_reader(path), no_dist=mesh.world == 1)
    except (Exception, CheckpointException) as error:  # whatever a file can be that has the right checksum
        failed = _reason(error, path)
        if failed.is_shortage:
            raise ShortageError(
                f"{failed} while reading {path}. {failed.remedy} and run the same command again."
            ) from error
        raise UserError(
            f"{path} is damaged ({failed}). Remove it, and the same command goes on from the checkpoint before it, or "
            "begins again"
        ) from error


def size_on_disk(path: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _together(mesh: Mesh, path: Path, action: Callable[[], None], *, main_only: bool = False) -> None:
    """Do something on all processes or on the main one; a failure of one is a failure of all."""
    failed: SaveError | None = None
    if mesh.is_main or not main_only:
        try:
            action()
        except (OSError, RuntimeError, MemoryError, CheckpointException, UserError) as error:
            failed = _reason(error, path)
    if failures := [found for found in mesh.gather(failed) if found]:
        raise failures[0]


def _reason(error: BaseException, path: Path) -> SaveError:
    """The first cause in plain words; torch wraps what happened on each process."""
    if isinstance(error, CheckpointException):
        for inner, _ in error.failures.values():
            return _reason(inner, path)
    if found := shortage_of(error, path):
        return SaveError(found.what, found.remedy)
    if isinstance(error, OSError) and error.strerror:
        return SaveError(error.strerror)
    return SaveError(first_line(error))


def _write_tensors(partial: Path, tensors: Tensors, mesh: Mesh) -> None:
    writer = IndexWriter(partial, single_file_per_rank=True, sync_files=True, thread_count=1)
    with _quiet():
        save(dict(tensors), storage_writer=writer, no_dist=mesh.world == 1)


def _write_files(partial: Path, files: dict[str, Any]) -> None:
    for name, value in files.items():
        write_text(partial / name, json.dumps(value, indent=1) + "\n")  # in its own order, which may matter


def _sums(partial: Path, mesh: Mesh) -> dict[str, Any]:
    """Size and checksum of this process's share of the files."""
    names = sorted(file.relative_to(partial).as_posix() for file in partial.rglob("*") if file.is_file())
    mine = names[mesh.rank :: mesh.world]
    return {name: {"bytes": (partial / name).stat().st_size, "sha256": file_sha256(partial / name)} for name in mine}


def _listed(path: Path) -> dict[str, Any]:
    """Size and checksum of each file, as the manifest says."""
    return dict(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"].items())


def _reader(path: Path) -> TensorReader:
    return TensorReader(path, {name: entry["bytes"] for name, entry in _listed(path).items()})


def _damage_of_index(path: Path) -> str:
    try:
        _reader(path).read_metadata()
    except BadIndexError as error:
        return str(error)
    return ""


def _damage_of_file(folder: Path, name: str, expected: Any) -> str:
    """Whether a file is the one that the manifest lists: of this very folder, and no link out of it."""
    path = folder / name
    if not (isinstance(expected, dict) and {"bytes", "sha256"} <= expected.keys()):
        return f"{MANIFEST} says nothing about {path.name}"
    if name != path.name or path.is_symlink():
        return f"{name} is no file of the folder itself"
    if not path.is_file():
        return f"{path.name} is missing"
    if path.stat().st_size != expected["bytes"]:
        return f"{path.name} has {path.stat().st_size} bytes, expected {expected['bytes']}"
    found = file_sha256(path)
    if found != expected["sha256"]:
        return f"checksum of {path.name} is {found[:8]}..., expected {expected['sha256'][:8]}..."
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remark that there is one process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
