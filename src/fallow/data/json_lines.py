"""JSON Lines and whole JSON files, and texts in their fields."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fallow.errors import UserError, nearest
from fallow.json_text import kind, parse
from fallow.unpack import decode, read_lines, read_whole

_BOM = "\ufeff"


def parse_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(Line number, object) of each line that is not blank.

    Raises:
        UserError: a line is not a JSON object; see `fallow.json_text.parse` for what else is refused.
    """
    for number, line in read_lines(path):
        if line.isspace():
            continue
        try:
            row = parse(line.removeprefix(_BOM) if number == 1 else line)
        except ValueError as error:
            raise UserError(f"{path}:{number} {error}. Write one JSON object a line.") from None
        if type(row) is not dict:
            raise UserError(f"{path}:{number} is not a JSON object, but {kind(row)}. Write one object a line.")
        yield number, row


def read_json(path: Path) -> Any:
    """The value that a whole JSON file holds, plain or .gz.

    Raises:
        UserError: it is not JSON.
    """
    text = decode(read_whole(path), path)
    try:
        return parse(text.removeprefix(_BOM))
    except ValueError as error:
        raise UserError(f"{path} {error}. Get the file again.") from None


def text_in(row: dict[str, Any], field: str, path: Path, number: int) -> str:
    """The text in a field of a line.

    Raises:
        UserError: there is no such field, or it holds something else.
    """
    text = row.get(field)
    if type(text) is str:
        return text
    if field not in row:
        raise no_field(f"{path}:{number}", field, list(row))
    raise UserError(f"{path}:{number} has {kind(text)} in {field}, but text is needed. Write it in quotation marks.")


def no_field(where: str, field: str, found: list[str]) -> UserError:
    """The error for a field or column that is not there."""
    close = nearest(field, found)
    names = ", ".join(name if name.isprintable() else repr(name) for name in found)
    shown = names if len(names) <= 200 else f"{names[:197]}..."
    hint = (
        f"Did you mean {close if close.isprintable() else repr(close)}?"
        if close
        else f"It has: {shown}. Set field to one of them."
    )
    return UserError(f"{where} has no field {field}. {hint}")
