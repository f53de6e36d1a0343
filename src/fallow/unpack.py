"""The one place where data files are opened: plain or .gz, with bounds on what a line and a whole file may hold.

A file that was cut off, altered or made to harm ends in one line, with memory and time bounded: see `MAX_LINE`,
`MAX_WHOLE` and `MAX_RATIO`.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from fallow.errors import UserError, first_line
from fallow.shortages import refuse_shortage

MAX_LINE = 16 << 20
"""Bytes of a line or a document. Tokenising one takes about 140 times its size in memory."""

MAX_WHOLE = 128 << 20
"""Bytes of a file that has to be in memory as a whole, such as one JSON value or an XML file."""

MAX_RATIO = 200
"""How many times its size a .gz file may hold, once that is above 8 MB. Text packs 2 to 10 times, logs up to 50."""

_FREE = 8 << 20
_BLANKS = 2 << 20
_BLOCK = 1 << 18


def open_binary(path: Path) -> IO[bytes]:
    """A regular file, unpacked when its name ends in .gz or .tgz.

    Raises:
        UserError: it cannot be opened. While it is read: it unpacks to more than `MAX_RATIO` times its size.
    """
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist" if not path.exists() else "is no regular file"
            raise UserError(f"{path} {what}, but a file of data is needed there. Name one.")
        with refuse_shortage(path, "reading"):
            return _unpacked(path) if path.name.endswith((".gz", ".tgz")) else path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Name another file.") from None


@contextmanager
def refuse_damage(path: Path, where: str = "") -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into one line that names it.

    Args:
        path: the file.
        where: how far it was read, such as "after row 7".

    Raises:
        UserError: something was raised; a shortage (memory, handles) is told as that.
    """
    try:
        with refuse_shortage(path, "reading"):
            yield
    except UserError:
        raise
    except Exception as error:  # each library has many kinds
        place = f" {where}" if where else ""
        raise UserError(f"{path} is damaged{place} ({first_line(error)[:200]}). Get the file again.") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text with its line feed) of each line of a UTF-8 file, plain or .gz. Only a line feed ends one.

    Raises:
        UserError: not UTF-8 or damaged, with the offset; a line that holds the character NUL or is above `MAX_LINE`.
    """
    offset = 0
    with open_binary(path) as file, _damage_after(path, lambda: offset):
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE + 1), b""), start=1):
            if b"\0" in line or len(line) > MAX_LINE:
                refuse_line(line, f"{path}:{number}")
            try:
                text = line.decode()
            except UnicodeDecodeError:
                text = decode(line, path, offset)  # says where
            yield number, text
            offset += len(line)


def read_blocks(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file in pieces of whole lines, about 256 KB each: `read_lines` joined, but faster.

    Raises:
        UserError: as `read_lines`.
    """
    offset, number, held = 0, 1, bytearray()
    with open_binary(path) as file, _damage_after(path, lambda: offset + len(held)):
        while chunk := file.read(_BLOCK):
            end = chunk.rfind(b"\n") + 1
            if not end:
                held += chunk
                if len(held) > MAX_LINE:
                    refuse_line(held, f"{path}:{number}")
                continue
            block = bytes(held) + chunk[:end]
            yield _block(block, path, offset, number)
            offset += len(block)
            number += block.count(b"\n")
            held = bytearray(chunk[end:])
        if held:
            yield _block(bytes(held), path, offset, number)


def read_whole(path: Path) -> bytes:
    """All bytes of a file, plain or .gz.

    Raises:
        UserError: damaged, or above `MAX_WHOLE`.
    """
    with open_binary(path) as file, _damage_after(path, file.tell):
        return bounded(file, path)


def bounded(file: IO[bytes], where: object) -> bytes:
    """The rest of an open file, at most `MAX_WHOLE` bytes.

    Raises:
        UserError: there are more.
    """
    raw = file.read(MAX_WHOLE + 1)
    if len(raw) > MAX_WHOLE:
        raise UserError(
            f"{where} is longer than {MAX_WHOLE >> 20} MB, and a file of this form is held in memory as a whole. Cut "
            "it into several files, or write JSON Lines."
        )
    return raw


def decode(raw: bytes, path: Path, offset: int = 0) -> str:
    """UTF-8 bytes as text; the message names the file and the offset of the first bad byte."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        packed = " of its unpacked text" if path.name.endswith(".gz") else ""
        if raw[error.start :].startswith(b"\x8b") and not offset and error.start == 1:
            raise UserError(f"{path} is packed by gzip. Give it a name that ends in .gz, or unpack it.") from None
        raise UserError(
            f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {offset + error.start}{packed}. "
            "Convert it, for example with iconv -t UTF-8."
        ) from None


def check_length(text: str, where: str) -> None:
    """Refuse a document above `MAX_LINE`, from files that have no lines.

    Raises:
        UserError: it is longer.
    """
    if len(text) > MAX_LINE:
        raise _too_long(where)


def refuse_line(line: bytes | bytearray, where: str) -> None:
    """Say what is wrong with a line that is too long or holds the character NUL.

    Raises:
        UserError: always.
    """
    if b"\0" in line:
        raise UserError(
            f"{where} holds the character NUL, which no text has: the file is damaged, binary, or UTF-16. Get it "
            "again, convert it (iconv -f UTF-16 -t UTF-8), or take these out (tr -d '\\000')."
        )
    raise _too_long(where)


def _too_long(where: str) -> UserError:
    return UserError(
        f"{where} is longer than {MAX_LINE >> 20} MB, which is the most for a line or a document. Cut it into several."
    )


def _block(raw: bytes, path: Path, offset: int, number: int) -> str:
    if b"\0" in raw:
        refuse_line(raw, f"{path}:{number + raw.count(10, 0, raw.index(0))}")
    return decode(raw, path, offset)


@contextmanager
def _damage_after(path: Path, offset: Any) -> Iterator[None]:
    try:
        with refuse_shortage(path, "reading"):
            yield
    except (EOFError, OSError, zlib.error) as error:  # BadGzipFile is an OSError
        raise UserError(
            f"{path} is damaged after byte {offset()} of its text ({first_line(error)}). Get the file again."
        ) from None


def _unpacked(path: Path) -> IO[bytes]:
    return io.BufferedReader(_Unpacked(path), _BLOCK)


class _Unpacked(io.RawIOBase):
    """What a .gz file holds, until it is more than text can be."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, gzip.GzipFile(path, "rb")
        self._blanks = 0
        self._most = max(_FREE, MAX_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        raw = self._file.read(len(buffer))
        buffer[: len(raw)] = raw
        self._blanks = 0 if raw.strip() else self._blanks + len(raw)
        if self._file.tell() > self._most or self._blanks > _BLANKS:
            raise UserError(
                f"{self._path} unpacks to more than {MAX_RATIO} times its size, or to more than {_BLANKS >> 20} MB of "
                "blanks in a row, as no text does: it is damaged, or made to fill the "
                "memory. If it is right, unpack it (gunzip) and name the plain file."
            )
        return len(raw)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset if whence == io.SEEK_SET else self._file.tell() + offset
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("a packed file has no known end")
        if target < self._file.tell():
            self._file.seek(target)
        while self._file.tell() < target and self.readinto(bytearray(min(_BLOCK, target - self._file.tell()))):
            pass  # forward by reading, so that the bound holds
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()
