"""Passing shortages: of disk, inodes, quota, memory, threads, handles; told as what they are, never as damage."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fallow.errors import UserError


class ShortageError(UserError):
    """Something is used up for now; nothing is wrong with any file."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """What is used up, and what helps."""

    what: str
    """As in "the disk is full"."""

    remedy: str
    """As in "Free space"; "and run the same command again" can follow."""


DISK = Shortage("the disk is full", "Free space")
_INODES = Shortage("the file system has room, but no inode left for another file", "Remove files that nobody needs")
_QUOTA = Shortage("your quota of the disk is used up", "Remove files, or have the quota raised,")
_MEMORY = Shortage("memory is used up", "End other programs, raise the limit (ulimit -v), take smaller batches,")
_THREADS = Shortage(
    "no more threads or processes can be started",
    "Raise the limit (ulimit -u, -v), set OMP_NUM_THREADS to less,",
)
_HANDLES = Shortage("too many files are open", "Raise the limit (ulimit -n 4096)")

_BY_NUMBER = {
    errno.ENOSPC: DISK,
    errno.EDQUOT: _QUOTA,
    errno.ENOMEM: _MEMORY,
    errno.EMFILE: _HANDLES,
    errno.ENFILE: _HANDLES,
}
_BY_TEXT = (
    (re.compile(r"no space left on device", re.IGNORECASE), DISK),
    (re.compile(r"disk quota exceeded", re.IGNORECASE), _QUOTA),
    (
        re.compile(r"start new thread|resource temporarily unavailable|pthread_create", re.IGNORECASE),
        _THREADS,
    ),
    (
        re.compile(
            r"can(?:'|no)t allocate memory|not enough memory|bad_alloc|out of memory|failed to map segment",
            re.IGNORECASE,
        ),
        _MEMORY,
    ),
    (re.compile(r"too many open files", re.IGNORECASE), _HANDLES),
)
_NATIVE = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust (safetensors, tokenizers) tell an error of the system."""


def shortage_of(error: BaseException | None, path: Path | None = None) -> Shortage | None:
    """The shortage behind an error, however a library told it, or None.

    Args:
        error: it, and what caused it, are looked at.
        path: what was being written or read; says whether a full disk is one without inodes.

    >>> shortage_of(OSError(errno.ENOSPC, "No space left on device")).what
    'the disk is full'
    >>> shortage_of(RuntimeError("can't start new thread")).what
    'no more threads or processes can be started'
    """
    link, seen = error, set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, OSError) and link.errno == errno.EAGAIN and link is error:
            return _THREADS  # of a fork; as the cause of something else it may be a lock that another has
        found = None if isinstance(link, UserError) else _one(link)
        if found is not None:
            named = getattr(link, "filename", None)
            place = path or (Path(os.fsdecode(named)) if isinstance(named, str | bytes) else None)
            return _INODES if found is DISK and place is not None and _lacks_inodes(place) else found
        link = link.__cause__ or link.__context__
    return None


@contextmanager
def refuse_shortage(path: Path, doing: str = "writing") -> Iterator[None]:
    """Say in one line what is used up, in whichever way a library found out.

    Args:
        path: the file or folder that is being written or read.
        doing: which of both.

    Raises:
        ShortageError: names the path and what helps.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ShortageError) or (found := shortage_of(error, path)) is None:
            raise
        kept = "finished files are kept" if doing == "writing" else "nothing is wrong with it"
        raise ShortageError(
            f"{found.what} while {doing} {path}. {found.remedy} and run the same command again; {kept}."
        ) from error


def _one(error: BaseException) -> Shortage | None:
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError) and error.errno is not None:
        return _BY_NUMBER.get(error.errno)
    if isinstance(error, ValueError | LookupError | TypeError):  # what a user wrote may be quoted in it
        return None
    text = str(error)
    if native := _NATIVE.search(text):
        number = int(native[1])
        return _THREADS if number == errno.EAGAIN else _BY_NUMBER.get(number)
    return next((shortage for pattern, shortage in _BY_TEXT if pattern.search(text)), None)


def _lacks_inodes(path: Path) -> bool:
    if not hasattr(os, "statvfs"):
        return False
    place = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), Path("/"))
    facts = os.statvfs(place)
    return facts.f_files > 0 and facts.f_favail == 0 and facts.f_bavail > 0
