"""Hypotheses and references from files, in the forms that the official scripts read."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from fallow.data.unpack import MAX_LINE, bounded, read_whole
from fallow.errors import UserError
from fallow.json_text import parse

_SOURCE = re.compile(r"(?i)(mr|src|source|meaning([_ .-]rep(resentation)?)?|da|dial(ogue)?[_ .-]act)s?")
_OUTPUT = re.compile(r"(?i)(out(put)?|ref(erence)?|sys(tem)?([_ .-](out(put)?|ref(erence)?))?)s?")
_REFERENCE = re.compile(r"(?i)(trg|tgt|target|ref(erence)?|human([_ .-](ref(erence)?))?)s?")

# What e2e-metrics mends in tables: letters that were decoded twice.
_MENDED = (("\u0141", "\u00a3"), ("\u00c2\u00a3", "\u00a3"), ("\u00c3\u00a9", "\u00e9"), ("\u00e3\u00a9", "\u00e9"))


def read(hypotheses: Path, references: Sequence[Path]) -> tuple[list[str], list[list[str]]]:
    """The texts of each input.

    Hypotheses are a text a line, or a table (.tsv, .csv) with a column of outputs, as the E2E challenge has them.
    References are one of:

    * a file for each reference of an input, a text a line; an empty line says that there is no such reference;
    * one file of blocks between empty lines, a block for each input and a reference a line (E2E);
    * one table (.tsv, .csv) with a column of meaning representations and one of references. Equal representations are
      one input: in the order of the hypotheses when these are a table too, else those in neighbouring rows.

    Args:
        hypotheses: their file.
        references: their files, one or more.

    Raises:
        UserError: a file is missing, empty or not UTF-8, or the numbers of texts differ.
    """
    if not references:
        raise UserError("there are no references. Name their files: --references F ...")
    if _is_table(hypotheses):
        sources, texts = _table(hypotheses, _OUTPUT)
    else:
        sources, texts = [], _lines(hypotheses)
    tables = [path for path in references if _is_table(path)]
    if tables and len(references) > 1:
        raise UserError(f"{tables[0]} is a table, which holds all references, but there are {len(references)} files")
    if tables:
        groups = _grouped(tables[0], sources)
    elif len(references) == 1:
        groups = _blocks_or_lines(references[0], len(texts))
    else:
        groups = _side_by_side(references, len(texts), hypotheses)
    if len(groups) != len(texts):
        raise UserError(
            f"{hypotheses} has {len(texts)} texts, but {references[0]} has references for {len(groups)} inputs; the "
            "numbers must agree"
        )
    return texts, groups


def _side_by_side(paths: Sequence[Path], count: int, hypotheses: Path) -> list[list[str]]:
    streams = []
    for path in paths:
        lines = _lines(path)
        if len(lines) != count:
            raise UserError(
                f"{hypotheses} has {_counted(count, 'line')}, but {path} has {len(lines)}; they must agree. Each file "
                f"has one reference of each input, or an empty line{_why(lines, count)}"
            )
        streams.append(lines)
    return [list(group) for group in zip(*streams, strict=True)]


def _blocks_or_lines(path: Path, count: int) -> list[list[str]]:
    lines = _lines(path)
    if len(lines) == count:
        return [[line] for line in lines]
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line)
        else:
            blocks.append([])
    if not blocks[-1]:
        del blocks[-1]
    if len(blocks) != count:
        raise UserError(
            f"there are {count} hypotheses, but {path} has {_counted(len(lines), 'line')} and "
            f"{_counted(len(blocks), 'block')} between empty lines. It must have a line or a block of references for "
            f"each hypothesis{_why(lines, count)}"
        )
    return blocks


def _why(lines: list[str], count: int) -> str:
    """What may be behind a number of lines that differs from the number of hypotheses."""
    bare = next((number for number, line in enumerate(reversed(lines)) if line.strip()), len(lines))
    if len(lines) - count == 1 and bare:
        return ". The last line of it is empty: remove it, or look for a line that is missing in the hypotheses"
    if bare > 1:
        return f". Its last {bare} lines are empty"
    if count - len(lines) == 1:
        return ". Where its last reference is an empty one, that line needs a line feed of its own"
    return ""


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _grouped(path: Path, asked: Sequence[str]) -> list[list[str]]:
    """References by source: in the order asked for, else as they stand."""
    found, texts = _table(path, _REFERENCE)
    if not any(asked):
        groups: list[list[str]] = []
        for number, (source, text) in enumerate(zip(found, texts, strict=True)):
            if not number or source != found[number - 1]:
                groups.append([])
            groups[-1].append(text)
        return groups
    by_source: dict[str, list[str]] = {}
    for source, text in zip(found, texts, strict=True):
        by_source.setdefault(source, []).append(text)
    missing = [source for source in asked if source not in by_source]
    if missing:
        raise UserError(f'{path} has no reference for "{missing[0]}" ({_counted(len(missing), "input")} in all)')
    return [by_source[source] for source in asked]


def _is_table(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith((".tsv", ".csv"))


def _table(path: Path, wanted: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The sources and texts of a table; without a header these are its two columns."""
    lines = {number: line.strip() for number, line in enumerate(_lines(path), start=1) if line.strip()}
    if not lines:
        raise UserError(f"{path} holds no text")
    numbers, rows = _rows(path, lines)
    sources = [number for number, name in enumerate(rows[0]) if _SOURCE.match(name)]
    columns = [number for number, name in enumerate(rows[0]) if wanted.match(name)]
    width = len(rows[0])
    if len(sources) == 1 == len(columns) and sources != columns:
        source, column = sources[0], columns[0]
        del rows[0]
    elif not sources and not columns and len(rows[0]) == 2:
        source, column = 0, 1
    else:
        raise UserError(
            f"the columns of {path} are {', '.join(rows[0])[:200]}; there must be one of sources (mr) and one of texts "
            "(output, or ref), or two without names"
        )
    for number, row in zip(numbers[len(numbers) - len(rows) :], rows, strict=True):
        if not max(source, column) < len(row) <= width:
            raise UserError(
                f"{path}:{number} has {len(row)} columns, but the first row has {width}. The row is cut off, or a text "
                "with a comma or tab is not in quotation marks"
            )
    return [row[source] for row in rows], [row[column] for row in rows]


def _rows(path: Path, lines: dict[int, str]) -> tuple[list[int], list[list[str]]]:
    """The line and the cells of each row. A row that takes in the next line has an open quotation mark."""
    for wrong, right in _MENDED:
        lines = {number: line.replace(wrong, right) for number, line in lines.items()}
    numbers, rows = list(lines), []
    csv.field_size_limit(MAX_LINE)
    first = lines[numbers[0]]
    reader = csv.reader(lines.values(), delimiter="\t" if "\t" in first else ",")
    try:
        for row in reader:
            rows.append(row)
            if reader.line_num > len(rows):
                raise UserError(
                    f"{path}:{numbers[len(rows) - 1]} opens a quotation mark that its line does not close, and so "
                    'takes in the next one. Remove it, or write the text in marks with doubled ones inside: "a ""b"" c"'
                )
    except csv.Error as error:
        raise UserError(f"{path}:{numbers[len(rows)]} is no row of a table ({error}). Mend the line") from None
    return numbers, rows


def _lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, plain or .gz. Only line feeds end one, whatever else Unicode has for it."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a file of texts")
    try:
        if path.name.endswith(".gz"):
            data = read_whole(path)
        else:
            with path.open("rb") as file:
                data = bounded(file, path)
    except FileNotFoundError:
        hint = "; write /dev/stdin for standard input" if str(path) == "-" else ""
        raise UserError(f"there is no file {path}{hint}") from None
    if data.startswith(b"\x1f\x8b"):
        raise UserError(f"{path} is packed by gzip. Give it a name that ends in .gz, or unpack it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8: line {line} has the byte 0x{data[error.start]:02x}. Convert it"
        ) from None
    if not text:
        raise UserError(f"{path} is empty")
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if len(lines) == 1 and ("\r" in lines[0] or "\0" in lines[0]):
        end = "CR" if "\r" in lines[0] else "NUL"
        raise UserError(f"{path} ends its lines in {end} alone. Convert it: a line ends with LF or CRLF")
    if all(line.startswith("{") and line.endswith("}") and _is_object(line) for line in lines):
        raise UserError(f"{path} holds JSON Lines, but a text a line is read. Write its texts into a file")
    return lines


def _is_object(line: str) -> bool:
    try:
        return isinstance(parse(line), dict)
    except ValueError:
        return False
