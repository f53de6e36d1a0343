"""Hypotheses and references from files, in the forms that the official scripts read."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from fallow.errors import UserError

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
                f"{hypotheses} has {count} lines, but {path} has {len(lines)}; they must agree. Each file has one "
                "reference of each input, or an empty line"
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
            f"there are {count} hypotheses, but {path} has {len(lines)} lines and {len(blocks)} blocks between empty "
            "lines. It must have a line or a block of references for each hypothesis"
        )
    return blocks


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
        raise UserError(f'{path} has no reference for "{missing[0]}" ({len(missing)} inputs in all)')
    return [by_source[source] for source in asked]


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".tsv", ".csv")


def _table(path: Path, wanted: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The sources and texts of a table; without a header these are its two columns."""
    lines = [line.strip() for line in _lines(path)]
    for wrong, right in _MENDED:
        lines = [line.replace(wrong, right) for line in lines]
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{path} is empty")
    rows = list(csv.reader(lines, delimiter="\t" if "\t" in lines[0] else ","))
    sources = [number for number, name in enumerate(rows[0]) if _SOURCE.match(name)]
    columns = [number for number, name in enumerate(rows[0]) if wanted.match(name)]
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
    width = max(source, column) + 1
    short = next((number for number, row in enumerate(rows, 1) if len(row) < width), None)
    if short is not None:
        raise UserError(f"row {short} of {path} has fewer columns than the first")
    return [row[source] for row in rows], [row[column] for row in rows]


def _lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file. Only line feeds end one, whatever else Unicode has for it."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a file of texts")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8: line {line} has the byte 0x{data[error.start]:02x}. Convert it"
        ) from None
    if not text.strip():
        raise UserError(f"{path} is empty")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
