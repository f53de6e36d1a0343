"""The one writer of files and folders: whole or absent, and still so after a power loss.

What is promised once `atomic`, `write_text`, `write_json`, `write_sealed` or `write_folder` has returned: the new
content is there after a power loss, complete, under its name. If the power goes, or the process is killed, before: what
was there is untouched, and beside it lies at most a leftover, `.NAME.<random>.tmp`, which the next writer of that
name removes, as does `sweep`. All content is flushed to the disk first (fsync of each file and folder), then renamed,
then the folder that holds the name is flushed. So what one call wrote is on disk before the next begins: a record that
says "finished" is never there without all that was written before it. It holds where the file system and the disk do
what fsync asks of them (ext4, xfs, btrfs with their defaults; not `nobarrier`, `eatmydata`, or a disk that lies).
"""

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fallow.errors import UserError
from fallow.shortages import refuse_shortage

fcntl: Any = None
with suppress(ImportError):  # Windows has none
    import fcntl

_TEMPORARY = re.compile(r"\..+\.tmp")
_SEAL = "sha256"
_PLAN = "moving.json"
"""In a holder from which files move into a folder that was there: their names, to undo a move that was broken off."""
_LONGEST = 200
"""Bytes of a name that go into a temporary one: most systems allow 255 bytes."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path`, on disk, when the block ends well, and disappears when it does not.

    Raises:
        UserError: something is used up, or `path` is no regular file; what was there before is untouched.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file, and only such a one can be replaced. Name another one")
    with refuse_shortage(path), _holder(path) as holder:
        temporary = holder / path.name
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666))
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path`, with all in it on disk, when the block ends well.

    A folder that was there is replaced, whatever it held. When the block fails, it is untouched.

    Raises:
        UserError: something is used up, or `path` is a file.
    """
    with refuse_shortage(path), folder_aside(path) as temporary:
        yield temporary


@contextmanager
def fill_folder(path: Path, *, last: Sequence[str] = ("config.json",), stale: Sequence[str] = ()) -> Iterator[Path]:
    """A temporary folder whose content goes into a folder that somebody named, when the block ends well.

    A folder that is not there appears whole, as with `write_folder`. One that is there (it may be a mount, or hold
    other things) stays, and gets the files one by one; without the `last` ones it must mean nothing, and they are
    removed before the first file moves.

    Args:
        path: the folder.
        last: names of the files that make the folder what it is; they are moved in this order.
        stale: patterns of files of an earlier content that must not stay beside the new one.

    Raises:
        UserError: something is used up, or `path` is a file.
    """
    if not path.exists():
        with write_folder(path) as temporary:
            yield temporary
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file, but a folder is to be written there. Name another one")
    with refuse_shortage(path), _holder(path / "content") as holder:
        temporary = holder / "content"
        temporary.mkdir()
        yield temporary
        sync_folder(temporary)
        _move_into(path, temporary, holder / _PLAN, last, stale)


def refuse_used(path: Path, flag: str = "--output") -> None:
    """Refuse a folder that holds something; what a killed command left in it is removed, and does not count.

    Raises:
        UserError: names the flag.
    """
    sweep(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} is there already and not empty. Use another {flag}")


@contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """`write_folder` for those who tell a shortage themselves: raises OSError as it comes."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, but a folder is to be written there. Name another one")
    with _holder(path) as holder:
        temporary = holder / path.name
        temporary.mkdir()
        yield temporary
        sync_folder(temporary)
        if not path.exists():
            temporary.rename(path)
        elif not _exchanged(temporary, path):
            path.rename(holder / f"{path.name}.old")
            temporary.rename(path)
        sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those it lies in, where they are missing; their names are on disk when this returns."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def open_own(path: Path, flags: int) -> int:
    """A handle of a file that is written in place, such as a log; made where it is missing. Links are not followed.

    Args:
        path: the file.
        flags: of `os.open` beside those that make it.

    Raises:
        UserError: a link is there, or something that is no file.
    """
    try:
        return os.open(path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise UserError(f"{path} is a link or no regular file, and is not written through. Remove it") from None


def append(path: Path, content: bytes) -> None:
    """Add to a file, made where it is missing; what was added is on disk when this returns."""
    make_folder(path.parent)
    is_new = not path.exists()
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND), "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there, so that it is never there in part: it loses its name first.

    What a killed process left of one that it was removing goes as well.
    """
    sweep(path.parent, path.name)
    aside = path.with_name(_temporary_name(path.name))
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk, where the system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Wait until all files and folders in a folder, and itself, are on disk. Links are not followed."""
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            if not (Path(folder) / name).is_symlink():
                sync(Path(folder) / name)
        sync(Path(folder))


def is_temporary(name: str) -> bool:
    """Whether a name in a folder is one of ours while we write, or what a killed process left.

    >>> is_temporary(".index.json.0123456789abcdef.tmp"), is_temporary("index.json")
    (True, False)
    """
    return _TEMPORARY.fullmatch(name) is not None


def sweep(folder: Path, name: str = "") -> list[str]:
    """Remove the leftovers of killed processes from a folder; what a living process still writes stays.

    Args:
        folder: not searched deeper.
        name: of the file or folder whose leftovers go; all where it is empty.

    Returns:
        The names that were removed.
    """
    begins, removed = f".{_shortened(name)}." if name else ".", []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(begins) and is_temporary(path.name) and not _is_held(path):
            _remove(path)
            removed.append(path.name)
    return removed


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that the file is whole or absent."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON so that the file is whole or absent."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with a checksum of itself, under the key `sha256`: for records that are used later.

    Keys stay in their order: what is made from a record that was read again is then equal in order, too.
    """
    write_text(path, json.dumps({**value, _SEAL: _seal(value)}, indent=1) + "\n")


def sort_metadata(path: Path) -> None:
    """Put the metadata of a new safetensors file in the order of its keys: the library draws one in each process.

    So equal content gives equal bytes, which checksums of files rely on. Only a file with more than one key needs it.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
        content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(content) > size:
            raise ValueError(f"the header of {path} is written in another way than it is read")
        file.seek(8)
        file.write(content.ljust(size))


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """The object in a JSON file that fallow wrote.

    Args:
        path: the file.
        hint: what to do when it is damaged.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. {hint}") from None
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise UserError(f"{path} is damaged ({error}). {hint}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged (it holds no keys and values). {hint}")
    return value


def read_sealed(path: Path, hint: str, *, form: int = 0) -> dict[str, Any]:
    """The object that `write_sealed` wrote, without its checksum.

    Args:
        path: the file.
        hint: what to do when it is damaged.
        form: what its key `format` must be; 0 for records that have none.

    Raises:
        UserError: it cannot be read, holds something else, is of another format, or was changed since.
    """
    value = read_json(path, hint)
    if form and (found := value.get("format", 1)) != form:
        raise UserError(f"{path} is of format {found}, but this fallow reads format {form}. {hint}")
    if _SEAL not in value:
        raise UserError(f"{path} is damaged (it has no checksum of itself). {hint}")
    return unsealed(path, value, hint)


def unsealed(path: Path, value: dict[str, Any], hint: str) -> dict[str, Any]:
    """An object that was read, without its checksum; one that has none is taken as it is.

    Args:
        path: where it was read.
        value: changed in place.
        hint: what to do when it is damaged.

    Raises:
        UserError: it was changed since it was sealed.
    """
    seal = value.pop(_SEAL, None)
    if seal is not None and seal != _seal(value):
        raise UserError(f"{path} was changed or is damaged: it does not have the checksum that is in it. {hint}")
    return value


def _seal(value: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(value))  # as it will be read: keys that are numbers become text
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextmanager
def _holder(path: Path) -> Iterator[Path]:
    """A folder beside `path`, closed to others, in which its new content is made; locked, so that none sweeps it."""
    make_folder(path.parent)
    sweep(path.parent, path.name)
    holder = path.with_name(_temporary_name(path.name))
    holder.mkdir(mode=0o700)
    lock = _locked(holder)
    try:
        yield holder
    finally:
        _remove(holder)
        if lock is not None:
            os.close(lock)


def _temporary_name(name: str) -> str:
    return f".{_shortened(name)}.{secrets.token_hex(8)}.tmp"


def _shortened(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:_LONGEST])


def _locked(path: Path) -> int | None:
    """A handle that holds the lock of a file or folder; None where another has it, or nobody can have it."""
    if fcntl is None:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_held(path: Path) -> bool:
    """Whether a living process still writes it, or might: where there are no locks, nobody can say."""
    try:
        lock = _locked(path)
    except OSError:  # gone, a link, or not ours
        return not path.is_symlink()
    if lock is None:
        return True
    os.close(lock)
    return False


def _move_into(path: Path, content: Path, plan: Path, last: Sequence[str], stale: Sequence[str]) -> None:
    names = sorted(entry.name for entry in content.iterdir())
    write_json(plan, {"names": names})
    sync(plan.parent)
    old = {path / name for name in last} | {file for pattern in stale for file in path.glob(pattern)}
    for file in old:
        file.unlink(missing_ok=True)
    sync(path)
    for name in [name for name in names if name not in last]:
        if (content / name).is_dir():
            remove_folder(path / name)
        (content / name).rename(path / name)
    sync(path)
    for name in [name for name in last if name in names]:
        (content / name).rename(path / name)
    plan.unlink()
    sync(plan.parent)
    sync(path)


def _remove(path: Path) -> None:
    """A temporary file or folder; if files were being moved from it, those that have moved go too."""
    if not path.is_dir() or path.is_symlink():
        with suppress(OSError):
            path.unlink()
        return
    with suppress(OSError, ValueError, TypeError, LookupError, UserError):
        for name in read_json(path / _PLAN, "")["names"]:
            if Path(name).name == name:
                _remove(path.parent / name)
    shutil.rmtree(path, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change names in one step, so that neither name is ever missing; false where that cannot be."""
    change = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    at_here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    return change is not None and change(at_here, os.fsencode(one), at_here, os.fsencode(other), exchange) == 0
