"""Responses of two models to the same instructions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fallow.data.json_lines import parse_json_lines, read_json
from fallow.errors import UserError
from fallow.integrity import MARK, has_mark
from fallow.json_text import kind
from fallow.unpack import open_binary, refuse_damage

INSTRUCTIONS = ("instruction", "prompt", "context")
RESPONSES = ("response", "output", "text")
"""Fields that are looked for, in this order; the second ones are those of `fallow generate`."""

_HEAD = "fallow-texts"


@dataclass(frozen=True, slots=True)
class Pair:
    """An instruction and what two models made of it."""

    key: str
    """Its id, or its number in the files, from 1."""

    instruction: str
    a: str
    b: str


def read_pairs(a: Path, b: Path) -> list[Pair]:
    """The responses in two files, matched by `id` where all have one, else by instruction.

    A file holds JSON Lines, or one JSON list, of objects with an instruction (`instruction`, `prompt` or `context`) and
    a response (`response`, `output` or `text`). What `fallow generate` writes by --json or --texts is of this form.
    Without ids an instruction may come several times; then both files have to have the same order.

    Raises:
        UserError: a file is absent, empty or not of this form, or the two do not answer the same instructions; says
            which ones.
    """
    left, right = _read(a), _read(b)
    by = "id" if all("id" in row for row in [*left, *right]) else "instruction"
    known = [{row[by] for row in rows} for rows in (left, right)]
    if known[0] != known[1]:
        only = next(row[by] for row in [*left, *right] if (row[by] in known[0]) != (row[by] in known[1]))
        where, missing = (a, b) if only in known[0] else (b, a)
        what = "ids" if by == "id" else "instructions"
        raise UserError(
            f"{len(known[0] ^ known[1])} {what} are answered in one file only: {missing} has no response to "
            f"{_short(only)}, but {where} has. Answer the same ones"
        )
    if len(known[0]) == len(left) and len(known[1]) == len(right):
        place = {row[by]: row for row in right}
        right = [place[row[by]] for row in left]
    elif by == "id":
        path, rows, distinct = (a, left, known[0]) if len(known[0]) < len(left) else (b, right, known[1])
        raise UserError(f"{path} has {len(rows)} responses, but {len(distinct)} different ids. Give each its own")
    elif len(left) != len(right):
        raise UserError(
            f"{a} has {len(left)} responses and {b} has {len(right)}. Answer the same instructions, or give each an id"
        )
    pairs = []
    for number, (one, two) in enumerate(zip(left, right, strict=True), start=1):
        key = one["id"] if by == "id" else str(number)
        if one["instruction"] != two["instruction"]:
            raise UserError(
                f"number {number} ({key}) of {a} answers {_short(one['instruction'])}, but that of {b} answers "
                f"{_short(two['instruction'])}. Put them in the same order, or give each an id"
            )
        pairs.append(Pair(key, one["instruction"], one["response"], two["response"]))
    return pairs


def _read(path: Path) -> list[dict[str, str]]:
    """`instruction`, `response` and, where it is there, `id` of each object."""
    if not path.is_file():
        raise UserError(f"{path} does not exist. Name a file of responses (JSON Lines)")
    rows: list[dict[str, str]] = []
    fields: tuple[str, ...] = INSTRUCTIONS
    for number, row in _objects(path):
        if number == 1 and row.get("format") == _HEAD:
            fields = ("context",)  # there `prompt` holds token ids
        elif MARK in row and fields == ("context",) and not has_mark(row):
            raise UserError(f"{path}:{number} was changed or is damaged: it does not have the checksum that is in it.")
        else:
            rows.append(_plain(row, f"{path}:{number}", fields))
    if not rows:
        raise UserError(f"{path} holds no response. Write one JSON object a line")
    return rows


def _objects(path: Path) -> Iterable[tuple[int, Mapping[str, Any]]]:
    with open_binary(path) as file, refuse_damage(path):
        if file.peek(1)[:1] != b"[":  # type: ignore[attr-defined]
            return parse_json_lines(path)
    listed = read_json(path)
    for number, row in enumerate(listed, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{path}: entry {number} is not a JSON object, but {kind(row)}. Write an object.")
    return list(enumerate(listed, start=1))


def _plain(row: Mapping[str, Any], where: str, instructions: Sequence[str]) -> dict[str, str]:
    found = {}
    for name, fields in (("instruction", instructions), ("response", RESPONSES)):
        field = next((field for field in fields if field in row), None)
        if field is None:
            raise UserError(f"{where} has no {name}. It has: {', '.join(row)}. Write {_or(fields)}")
        if not isinstance(row[field], str):
            raise UserError(f'{where} has {kind(row[field])} in {field}, but text is needed. An empty answer is ""')
        found[name] = row[field]
    if "id" not in row:
        return found
    if type(row["id"]) not in (str, int):
        raise UserError(f"{where} has {kind(row['id'])} in id, but a text or a whole number is needed")
    return found | {"id": str(row["id"])}


def _or(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
