"""Files that are whole or absent, and a full disk told from other trouble."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fallow.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and disappears when it does not.

    Raises:
        UserError: the disk is full; what was there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with refuse_full_disk(path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def refuse_full_disk(path: Path) -> Iterator[None]:
    """Say in one line that the disk is full, in whichever way a library found out.

    Args:
        path: the file or folder that is being written.

    Raises:
        UserError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise UserError(
            f"the disk is full while writing {path}. Free space and run again; finished files are kept."
        ) from error


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk (or a quota) is behind an error; safetensors only says so in its text.

    >>> is_full(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if f"os error {errno.ENOSPC}" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that the file is whole or absent."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON so that the file is whole or absent."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


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
    except ValueError as error:  # not JSON, or not UTF-8
        raise UserError(f"{path} is damaged ({error}). {hint}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged (it holds no keys and values). {hint}")
    return value


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
