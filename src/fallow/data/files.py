"""Reading documents from local files, with messages that name the file and the offset."""

from collections.abc import Iterator
from pathlib import Path

from fallow.data.documents import Document
from fallow.data.json_lines import parse_json_lines, text_in
from fallow.data.parquet import read_parquet
from fallow.errors import UserError, nearest
from fallow.integrity import checksum
from fallow.unpack import open_binary, read_blocks

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".json.gz", ".parquet")
"""`.json.gz` is how C4 publishes its JSON lines."""

_PIECE = 1 << 16


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
    open_binary(path).close()  # refuses what is no regular file: opening a pipe would wait for ever
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
        documents = read_parquet(path, field)
    elif path.name.endswith((".jsonl", ".jsonl.gz", ".json.gz")):
        documents = _read_jsonl(path, field)
    else:
        documents = _read_text(path)
    empty = True
    for document in documents:
        if document.text:
            empty = empty and document.text.isspace()
            yield document
    if empty:
        raise UserError(f"{path} holds no text. Remove it, or write the text again.")


def _read_text(path: Path) -> Iterator[Document]:
    """Pieces of about 64 KB cut at blank lines, or at any line where none comes for another 64 KB."""
    held, number = "", 0
    for block in read_blocks(path):
        held, start = held + block, 0
        while end := _piece_end(held, start):
            yield Document(f"{path}#{number}", held[start:end])
            start, number = end, number + 1
        held = held[start:]
    if held:
        yield Document(f"{path}#{number}" if number else str(path), held)


def _piece_end(text: str, start: int) -> int:
    """Where the piece that begins at `start` ends; 0 while that is not known yet."""
    end = text.find("\n", start + _PIECE - 1) + 1
    while end and end - start < 2 * _PIECE:
        line = text.rfind("\n", start, end - 1) + 1
        if text[max(line, start) : end].isspace():
            break
        end = text.find("\n", end) + 1
    return end


def _read_jsonl(path: Path, field: str) -> Iterator[Document]:
    for number, row in parse_json_lines(path):
        yield Document(f"{path}:{number}", text_in(row, field, path, number))


def is_folder_of_shards(path: str | Path) -> bool:
    """Whether this is a folder written by `fallow prepare`."""
    return Path(path, "index.json").is_file()
