"""Folders of tensors and JSON with a manifest of checksums, which all processes write together."""

import errno
import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import EnumMeta
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from fallow.errors import UserError
from fallow.files import file_sha256, folder_aside, write_json, write_text
from fallow.train.distributed import Mesh

MANIFEST = "manifest.json"
Tensors = dict[str, torch.Tensor]


class SaveError(Exception):
    """A folder could not be written; what was there before is untouched. The text is the reason."""


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
        _together(mesh, lambda: made.append(aside.enter_context(folder_aside(path))), main_only=True)
        partial: Path = mesh.broadcast_object(made[0] if made else path)
        _together(mesh, lambda: _write_tensors(partial, tensors, mesh))
        _together(mesh, lambda: _write_files(partial, files), main_only=True)
        own: dict[str, Any] = {}
        _together(mesh, lambda: own.update(_sums(partial, mesh)))
        every = {name: entry for part in mesh.gather(own) for name, entry in part.items()}
        _together(mesh, lambda: write_json(partial / MANIFEST, {"files": dict(sorted(every.items()))}), main_only=True)
        _together(mesh, aside.close, main_only=True)


def damage(path: Path, mesh: Mesh) -> str:
    """What is wrong with a folder, the same answer on every process; empty when it is whole."""
    expected: dict[str, Any] = {}
    problem = ""
    try:
        expected = dict(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"])
    except FileNotFoundError:
        problem = f"{MANIFEST} is missing"
    except (ValueError, KeyError, TypeError, OSError):
        problem = f"{MANIFEST} cannot be read"
    for name in sorted(expected)[mesh.rank :: mesh.world]:
        problem = problem or _damage_of_file(path / name, expected[name])
    if mesh.is_main and not problem:
        problem = _damage_of_index(path)
    return next((text for text in mesh.gather(problem) if text), "")


def read_json(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def describe_tensors(path: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of each tensor in a folder."""
    entries = SafeReader(path).read_metadata().state_dict_metadata
    return {
        name: (entry.size, entry.properties.dtype)
        for name, entry in entries.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def read_tensors(path: Path, tensors: Tensors, mesh: Mesh) -> None:
    """Fill `tensors` in place from a folder, also one that another number of processes wrote."""
    with _quiet():
        load(tensors, storage_reader=SafeReader(path), no_dist=mesh.world == 1)


def size_on_disk(path: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


class SafeReader(FileSystemReader):
    """A reader that builds nothing but descriptions of tensors from the index file, which torch stores as a pickle."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The index, refused when it names any other class or function."""
        with Path(self._get_metadata_path(kwargs.get("rank"))).open("rb") as file:
            metadata: Metadata = _IndexUnpickler(file).load()
        if metadata.storage_meta is not None:
            metadata.storage_meta.load_id = self.load_id
        return metadata


class _IndexUnpickler(pickle.Unpickler):
    _ALLOWED = frozenset(
        {
            ("torch", "Size"),
            ("torch.serialization", "_get_layout"),
            ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
            ("pathlib", "Path"),
            ("pathlib", "PosixPath"),
            ("pathlib", "WindowsPath"),
            ("pathlib._local", "PosixPath"),
            ("collections", "OrderedDict"),
        }
    )
    # By name: the module itself holds `os` too, and a pickle may ask for `os.system` of it.
    _DESCRIPTIONS = frozenset(
        {
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        is_description = module == "torch.distributed.checkpoint.metadata" and name in self._DESCRIPTIONS
        if (module, name) in self._ALLOWED or is_description:
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype | torch.layout):
            return getattr(torch, name)
        if (module, name) == ("builtins", "getattr"):
            return _member
        raise pickle.UnpicklingError(f"the index names {module}.{name}, which is not part of a checkpoint")


def _member(kind: Any, name: str) -> Any:
    """Of an enumeration alone: Python 3.11.0 to 3.11.3 write its members as getattr(kind, name)."""
    if isinstance(kind, EnumMeta):
        return kind[name]
    raise pickle.UnpicklingError(f"the index names {name} of {kind}, which is not part of a checkpoint")


def _together(mesh: Mesh, action: Callable[[], None], *, main_only: bool = False) -> None:
    """Do something on all processes or on the main one; a failure of one is a failure of all."""
    reason = ""
    if mesh.is_main or not main_only:
        try:
            action()
        except (OSError, RuntimeError, CheckpointException, UserError) as error:
            reason = _reason(error)
    if reasons := [text for text in mesh.gather(reason) if text]:
        raise SaveError(reasons[0])


def _reason(error: BaseException) -> str:
    """The first cause in plain words; torch wraps what happened on each process."""
    if isinstance(error, CheckpointException):
        for inner, _ in error.failures.values():
            return _reason(inner)
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno == errno.ENOSPC:
            return "the disk is full"
        link = link.__cause__ or link.__context__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0] or type(error).__name__


def _write_tensors(partial: Path, tensors: Tensors, mesh: Mesh) -> None:
    writer = FileSystemWriter(partial, single_file_per_rank=True, sync_files=True, thread_count=1)
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


def _damage_of_index(path: Path) -> str:
    try:
        SafeReader(path).read_metadata()
    except Exception as error:  # a pickle can fail in any way
        return str(error)
    return ""


def _damage_of_file(path: Path, expected: Any) -> str:
    if not (isinstance(expected, dict) and {"bytes", "sha256"} <= expected.keys()):
        return f"{MANIFEST} says nothing about {path.name}"
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
