"""Rows of a CSV file with a header, each as wide as the header says."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from fallow.errors import UserError
from fallow.unpack import MAX_LINE, read_lines

_BOM = "\ufeff"


def read_table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(Line where it begins, cells by column in lower case) of each row of a CSV file, plain or .gz.

    Raises:
        UserError: not UTF-8, damaged, without a header, a column twice, a row with fewer or more cells than columns, or
            a quotation mark that is never closed; names the line.
    """
    rows = parse_rows((line for _, line in read_lines(path)), path)
    _, first = next(rows, (0, []))
    names = [name.strip().lower() for name in first]
    if not any(names):
        raise UserError(f"{path} is empty. Get the file again.")
    check_columns(names, path)
    for line, cells in rows:
        check_width(cells, names, f"{path}:{line}")
        yield line, dict(zip(names, cells, strict=True))


def parse_rows(lines: Iterable[str], path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """(Line where it begins, cells) of each row that is not blank.

    Raises:
        UserError: a quotation mark that is never closed, text behind a closed one, or lines that end in CR alone.
    """
    csv.field_size_limit(MAX_LINE)  # articles are longer than the default of 128 KB
    begun = 1
    plain = (line.removeprefix(_BOM) if number == 0 else line for number, line in enumerate(lines))
    reader = csv.reader(plain, delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if cells:
                yield begun, cells
            begun = reader.line_num + 1
    except csv.Error as error:
        text = str(error)
        if "end of data" in text:
            what = (
                "opens a quotation mark that is never closed: the file was cut off, or a mark inside a text is single"
            )
        elif "new-line" in text:
            what = "holds a CR that is no end of a line. Convert line ends of CR alone (tr '\\r' '\\n'), or remove it"
        elif "field larger" in text:
            what = (
                f"has a cell of more than {MAX_LINE >> 20} MB: a quotation mark is not closed, or the text is too long"
            )
        else:
            what = f"is not CSV ({text})"
        raise UserError(f'{path}:{begun} {what}. Marks inside a text in marks are doubled: "a ""b"" c".') from None


def check_columns(names: list[str], path: Path) -> None:
    """Refuse a header that has a name twice.

    Raises:
        UserError: says which.
    """
    double = next((name for name in names if name and names.count(name) > 1), "")
    if double:
        raise UserError(f"{path} has {names.count(double)} columns named {double}. Rename all but one.")


def check_width(cells: list[str], names: list[str], where: str) -> None:
    """Refuse a row that is not as wide as the header.

    Raises:
        UserError: says how wide both are.
    """
    if len(cells) != len(names):
        raise UserError(
            f"{where} has {len(cells)} cells, but there are {len(names)} columns ({', '.join(names)[:120]}). The row "
            "is cut off, or a comma or tab in a text is not in quotation marks."
        )
