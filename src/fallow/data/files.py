"""Reading documents from local files, with messages that name the file and the offset."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fallow.data.documents import Document
from fallow.errors import UserError, nearest
from fallow.integrity import checksum

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".json.gz", ".parquet")
"""`.json.gz` is how C4 publishes its JSON lines."""

_PIECE = 1 << 16
_HALF = "\\ud"  # how JSON escapes begin that are characters only in pairs


def list_files(path: Path) -> list[Path]:
    """The file itself, or the readable files under a folder, sorted by path.

    Raises:
        UserError: nothing is there, or nothing of a known form.
    """
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
        if not found:
            raise UserError(f"{path} holds no file ending in {', '.join(SUFFIXES)}.")
        return found
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, beside)
        raise UserError(f"{path} does not exist." + (f" Did you mean {path.with_name(close)}?" if close else ""))
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path} ends in {path.suffix or 'nothing'}, but text is read from {', '.join(SUFFIXES)}.")
    return [path]


def content_facts(path: Path) -> dict[str, str]:
    """SHA-256 of each file of a source by its name below it: the same when files are copied or touched.

    Each file is read as a whole, about a second a gigabyte, once in a process.
    """
    root = path if path.is_dir() else path.parent
    return {file.relative_to(root).as_posix(): checksum(file) for file in list_files(path)}


def read_file(path: Path, field: str = "text") -> Iterator[Document]:
    """The documents of one file.

    Plain text: one document, or several cut at blank lines when the file is longer than 64 KB. JSONL and Parquet: one
    document a line or row, empty ones left out.

    Raises:
        UserError: empty, damaged or not UTF-8, with the offset; no such field.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes). Remove it, or write the text again.")
    if path.name.endswith(".parquet"):
        documents = _read_parquet(path, field)
    elif path.name.endswith((".jsonl", ".jsonl.gz", ".json.gz")):
        documents = _read_jsonl(path, field)
    else:
        documents = _read_text(path)
    empty = True
    for document in documents:
        if document.text:
            empty = False
            yield document
    if empty:
        raise UserError(f"{path} holds no text. Remove it, or write the text again.")


def open_binary(path: Path) -> IO[bytes]:
    """A file, unpacked when its name ends in .gz."""
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line of a UTF-8 file, plain or .gz.

    Raises:
        UserError: not UTF-8 or damaged, with the offset.
    """
    offset = 0
    try:
        with open_binary(path) as file:
            for number, line in enumerate(file, start=1):
                yield number, decode(line, path, offset)
                offset += len(line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged after byte {offset} of its text ({error}). Get the file again.") from None


def decode(raw: bytes, path: Path, offset: int = 0) -> str:
    """UTF-8 bytes as text; the message names the file and the offset of the first bad byte."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        packed = " of its unpacked text" if path.name.endswith(".gz") else ""
        raise UserError(
            f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {offset + error.start}{packed}. "
            "Convert it, for example with iconv -t UTF-8."
        ) from None


def parse_json_lines(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """(line number, object) of each line that is not blank.

    Raises:
        UserError: a line is not a JSON object.
    """
    for number, line in read_lines(path):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number} is not JSON: {error.msg} at column {error.colno}.") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number} is not a JSON object, but {type(row).__name__}.")
        if _HALF in line.lower() and not _is_text(row):
            raise UserError(
                f"{path}:{number} holds half of a surrogate pair (\\ud...), which is no character. Remove it."
            )
        yield number, row


def _is_text(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read_text(path: Path) -> Iterator[Document]:
    """Pieces of about 64 KB cut at blank lines, or at any line where none comes for another 64 KB."""
    lines: list[str] = []
    size = number = 0
    for _, line in read_lines(path):
        lines.append(line)
        size += len(line)
        if size >= 2 * _PIECE or (size >= _PIECE and line.isspace()):
            yield Document(f"{path}#{number}", "".join(lines))
            lines, size, number = [], 0, number + 1
    if lines:
        yield Document(f"{path}#{number}" if number else str(path), "".join(lines))


def _read_jsonl(path: Path, field: str) -> Iterator[Document]:
    for number, row in parse_json_lines(path):
        if field not in row:
            raise _no_field(f"{path}:{number}", field, list(row))
        text = row[field]
        if not isinstance(text, str):
            raise UserError(f"{path}:{number} has {type(text).__name__} in {field}, but text is needed.")
        yield Document(f"{path}:{number}", text)


def _read_parquet(path: Path, field: str) -> Iterator[Document]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError(f"{path} needs pyarrow, which is not installed. Write pip install 'fallow[data]'.") from None
    try:
        file = parquet.ParquetFile(path)
    except Exception as error:  # pyarrow raises many kinds
        raise UserError(f"{path} is not a Parquet file ({str(error).splitlines()[0]}).") from None
    if field not in file.schema_arrow.names:
        raise _no_field(str(path), field, list(file.schema_arrow.names))
    number = 0
    for batch in file.iter_batches(columns=[field], batch_size=1024):
        for text in batch.column(0).to_pylist():
            number += 1
            if text is not None and not isinstance(text, str):
                raise UserError(f"{path} has {type(text).__name__} in column {field}, but text is needed.")
            yield Document(f"{path}:{number}", text or "")


def _no_field(where: str, field: str, found: list[str]) -> UserError:
    close = nearest(field, found)
    hint = f"Did you mean {close}?" if close else f"It has: {', '.join(found)}. Set field to one of them."
    return UserError(f"{where} has no field {field}. {hint}")


def is_folder_of_shards(path: str | Path) -> bool:
    """Whether this is a folder written by `fallow prepare`."""
    return Path(path, "index.json").is_file()
