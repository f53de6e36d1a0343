"""The lock on what a command writes into: one owner at a time."""

import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fallow.errors import UserError
from fallow.files import make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

LOCK = ".lock"
"""In a folder that is written into, while it is: the lock, and who holds it."""


@contextmanager
def owned(path: Path | None, *, is_file: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, which is made when it is not there, or of a file, while the block runs.

    The system frees it when the process ends, however that is. Where the file system has no locks (some network file
    systems), that is told in a warning, and the block runs without one.

    Args:
        path: what the block writes into; None, and a file that is a device, need no lock.
        is_file: whether it is a file: its lock then lies beside it.

    Raises:
        UserError: another process holds it; names it, and its machine.
    """
    if path is None or (is_file and path.exists() and not path.is_file()):
        yield
        return
    place = path.with_name(f".{path.name}{LOCK}") if is_file else path / LOCK
    try:
        make_folder(place.parent)
        descriptor = _locked(place, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Use another name for it.") from error
    try:
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        yield
    finally:
        with suppress(OSError):
            place.unlink()
        os.close(descriptor)


def _locked(place: Path, path: Path) -> int:
    """A handle of the lock file, which nobody else holds, and which still has its name."""
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            if _lock(descriptor, path) and _is_at(descriptor, place):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner ended, and took the name away, after it was opened here


def _lock(descriptor: int, path: Path) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UserError(
                f"{path} is in use by {_owner(descriptor)}. Wait until it has ended, or use another --output."
            ) from None
        log.warning("%s is on a file system without locks: see that no other process writes into it.", path)
    return True


def _is_at(descriptor: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), place.stat())
    except FileNotFoundError:
        return False


def _owner(descriptor: int) -> str:
    try:
        facts = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(facts['pid'])} on {facts['host']}"
    except (ValueError, KeyError, TypeError, OSError):  # it has just taken the lock
        return "another process"
