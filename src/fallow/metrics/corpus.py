"""Hypotheses and references read from files, checked, tokenised once; `Metric`, `Measured`."""

import csv
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from fallow.errors import UserError
from fallow.json_text import parse
from fallow.unpack import MAX_LINE, bounded, read_whole

T = TypeVar("T")


Tokenizer = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of each hypothesis and of each of its references that is not empty."""

    hypotheses: tuple[list[str], ...]
    references: tuple[tuple[list[str], ...], ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts to score. Hypotheses may be empty; every one has a reference that is not."""

    hypotheses: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    """References without empty ones, in the order given."""

    width: int
    """How many reference files there are. A hypothesis with fewer references has empty lines in the others."""

    _made: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made when it is first asked for by this key."""
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])

    def tokens(self, tokenizer: Tokenizer) -> Tokens:
        """The texts cut by `tokenizer`, each distinct text once. Tokenizers that agree give one object."""
        known: dict[str, list[str]] = {}

        def cut(text: str) -> list[str]:
            found = known.get(text)
            if found is None:
                found = known[text] = tokenizer(text)
            return found

        def make() -> Tokens:
            made = Tokens(tuple(map(cut, self.hypotheses)), tuple(tuple(map(cut, group)) for group in self.references))
            return next((other for other in self._made.values() if other == made), made)

        return self.once(tokenizer, make)

    def tokens_of_lines(self, tokenizer: Callable[[Sequence[str]], list[list[str]]]) -> Tokens:
        """The texts cut by a tokenizer of whole files: one of hypotheses, one of all references."""

        def make() -> Tokens:
            lines = iter(tokenizer([text for group in self.references for text in group]))
            references = tuple(tuple(next(lines) for _ in group) for group in self.references)
            return Tokens(tuple(tokenizer(self.hypotheses)), references)

        return self.once(tokenizer, make)

    @property
    def num_references(self) -> int:
        """References that are not empty, of all hypotheses."""
        return sum(map(len, self.references))


def build(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    prepare: Callable[[str], str],
    prepare_reference: Callable[[str], str],
    max_references: int,
) -> Corpus:
    """Check the texts and prepare them: line ends become blanks, then what the profile does to each text.

    Args:
        hypotheses: one text for each input.
        references: its references; an empty one says that there is none in this place.
        prepare: what is done to each hypothesis before any tokenizer.
        prepare_reference: what is done to each reference.
        max_references: more references than this are left out; 0 takes all.

    Raises:
        UserError: the numbers differ, there is no text, or a hypothesis has no reference.
    """
    _check(hypotheses, references)
    groups = []
    width = 0
    for number, group in enumerate(references, 1):
        # More files than the script reads are not read; an empty line in one of the others still counts as a file.
        taken = group[:max_references] if max_references else group
        width = max(width, len(taken))
        kept = tuple(text for text in (prepare_reference(_line(text)) for text in taken) if text.strip())
        if not kept:
            raise UserError(f"hypothesis {number} has no reference that is not empty. Remove it, or write a reference")
        groups.append(kept)
    return Corpus(tuple(prepare(_line(text)) for text in hypotheses), tuple(groups), width)


def _line(text: str) -> str:
    return " ".join(text.split("\n")).replace("\r", " ").strip()


def _check(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if (
        isinstance(hypotheses, str)
        or isinstance(references, str)
        or any(isinstance(group, str) for group in references)
    ):
        raise UserError(
            "references are lists of texts, one list for each hypothesis: [['a', 'b'], ['c']], not ['a', 'b']"
        )
    if len(hypotheses) != len(references):
        raise UserError(
            f"there are {len(hypotheses)} hypotheses but references for {len(references)}; the numbers must agree. "
            "A line is missing or one too many in one of them"
        )
    if not hypotheses:
        raise UserError("there is no hypothesis to score: the input is empty")
    for number, (text, group) in enumerate(zip(hypotheses, references, strict=True), 1):
        bad = [value for value in (text, *group) if not isinstance(value, str)]
        if bad:
            raise UserError(f"hypothesis {number} or one of its references is {type(bad[0]).__name__}, not a text")


class AbsentError(Exception):
    """A metric cannot be computed on this machine; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The score of a corpus and, where they are defined and were asked for, of each hypothesis."""

    value: float
    segments: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By key; most metrics give one under their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One number of a profile."""

    key: str
    compute: Callable[[Corpus, bool], Measured]
    """From the texts, and whether scores of single hypotheses are wanted."""

    variant: str
    """What exactly it is."""

    scale: str = "0 to 1"
    official: bool = True
    """Whether the evaluation of this profile has it. What has not is given besides, for comparisons of one's own."""


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
