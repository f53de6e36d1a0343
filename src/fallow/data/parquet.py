"""Documents in a column of a Parquet file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fallow.data.documents import Document
from fallow.data.json_lines import no_field
from fallow.errors import UserError, first_line
from fallow.shortages import ShortageError, refuse_shortage
from fallow.unpack import MAX_RATIO, check_length, open_binary, refuse_damage

_ROWS = 64
"""Read at once. One value may stand for all rows of a file, so these many of the longest have to fit into memory."""

_LARGE = 64 << 20


def read_parquet(path: Path, field: str) -> Iterator[Document]:
    """The texts of a column, one document a row; null is an empty one.

    Parquet files have no checksum by default: a flipped bit inside a text that is not packed goes unnoticed.

    Raises:
        UserError: no such column, or several; damaged; not text; not UTF-8, with the row.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError(f"{path} needs pyarrow, which is not installed. Write pip install 'fallow[data]'.") from None
    open_binary(path).close()  # says what is wrong with the path
    try:
        with refuse_shortage(path, "reading"):
            file = parquet.ParquetFile(path)
            names = list(file.schema_arrow.names)
    except ShortageError:
        raise
    except Exception as error:  # pyarrow raises many kinds
        first = first_line(error)
        raise UserError(f"{path} is not a Parquet file ({first}).") from None
    if field not in names:
        raise no_field(str(path), field, names)
    if names.count(field) > 1:
        raise UserError(f"{path} has {names.count(field)} columns named {field}. Rename all but one.")
    _check_type(path, field, file.schema_arrow.field(field).type)
    _check_sizes(path, field, file.metadata)
    number = 0
    batches = file.iter_batches(columns=[field], batch_size=_ROWS)
    while True:
        with refuse_damage(path, f"after row {number}"):
            batch = next(batches, None)
        if batch is None:
            return
        for text in _texts(batch.column(0), path, number):
            number += 1
            if text:
                check_length(text, f"{path}:{number}")
            yield Document(f"{path}:{number}", text or "")


def _texts(column: Any, path: Path, number: int) -> list[str | None]:
    try:
        texts: list[str | None] = column.to_pylist()
    except UnicodeDecodeError:
        row = number + next(i for i in range(len(column)) if not _is_text(column[i]))
        raise UserError(
            f"{path}:{row + 1} holds text that is not UTF-8. Write the file again from UTF-8 text."
        ) from None
    return texts


def _is_text(value: Any) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _check_type(path: Path, field: str, found: Any) -> None:
    kind = str(getattr(found, "value_type", found) if str(found).startswith("dictionary") else found)
    if kind not in ("string", "large_string", "string_view", "null"):
        raise UserError(
            f"{path} has {kind} in column {field}, but text (string) is needed. Set field to another column."
        )


def _check_sizes(path: Path, field: str, metadata: Any) -> None:
    """Refuse a column that says of itself that it unpacks to more than text can."""
    with refuse_damage(path, "in its footer"):
        for group in range(metadata.num_row_groups):
            for place in range(metadata.num_columns):
                column = metadata.row_group(group).column(place)
                size, packed = column.total_uncompressed_size, column.total_compressed_size
                if column.path_in_schema == field and size > max(_LARGE, MAX_RATIO * packed):
                    raise UserError(
                        f"{path} unpacks to more than {MAX_RATIO} times its size in column {field}, as no text does: "
                        "it is damaged, or made to fill the memory. If it is right, write it again without compression."
                    )
