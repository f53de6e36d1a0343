"""Responses of two models to the same instructions."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fallow.data.files import decode, open_binary, parse_json_lines
from fallow.errors import UserError

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
    """The responses in two files, matched by `id` where both have ids, else line by line.

    A file holds JSON Lines, or one JSON list, of objects with an instruction (`instruction`, `prompt` or `context`) and
    a response (`response`, `output` or `text`). What `fallow generate` writes by --json or --texts is of this form.

    Raises:
        UserError: a file is absent, empty or not of this form, or the two do not answer the same instructions; says
            which ones.
    """
    left, right = _read(a), _read(b)
    ids = [{row["id"] for row in rows if "id" in row} for rows in (left, right)]
    if ids[0] and ids[1]:
        for path, rows, known in ((a, left, ids[0]), (b, right, ids[1])):
            if len(known) < len(rows):
                raise UserError(f"{path} has {len(rows)} responses, but {len(known)} different ids. Give each its own")
        if ids[0] != ids[1]:
            only = sorted(ids[0] ^ ids[1])
            where = a if only[0] in ids[0] else b
            raise UserError(f"{len(only)} ids are in one file only, such as {only[0]} in {where}. Answer the same ones")
        by_id = {row["id"]: row for row in right}
        right = [by_id[row["id"]] for row in left]
    elif len(left) != len(right):
        raise UserError(
            f"{a} has {len(left)} responses and {b} has {len(right)}. Answer the same instructions, or give each an id"
        )
    pairs = []
    for number, (one, two) in enumerate(zip(left, right, strict=True), start=1):
        key = str(one.get("id", number)) if ids[0] and ids[1] else str(number)
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
    rows = [
        _plain(row, f"{path}:{number}")
        for number, row in _objects(path)
        if not (number == 1 and row.get("format") == _HEAD)  # the head of a file of --texts
    ]
    if not rows:
        raise UserError(f"{path} holds no response. Write one JSON object a line")
    return rows


def _objects(path: Path) -> Iterable[tuple[int, Mapping[str, Any]]]:
    with open_binary(path) as file:
        raw = file.read(1) if path.stat().st_size else b""
        if raw != b"[":
            return parse_json_lines(path)
        text = decode(raw + file.read(), path)
    try:
        listed = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno} is not JSON: {error.msg} at column {error.colno}.") from None
    for number, row in enumerate(listed, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{path}: entry {number} is not a JSON object, but {type(row).__name__}.")
    return list(enumerate(listed, start=1))


def _plain(row: Mapping[str, Any], where: str) -> dict[str, str]:
    found = {}
    for name, fields in (("instruction", INSTRUCTIONS), ("response", RESPONSES)):
        field = next((field for field in fields if field in row), None)
        if field is None:
            raise UserError(
                f"{where} has no {name}. It has: {', '.join(row)}. Write {', '.join(fields[:-1])} or {fields[-1]}"
            )
        if not isinstance(row[field], str):
            raise UserError(f"{where} has {type(row[field]).__name__} in {field}, but text is needed")
        found[name] = row[field]
    return found | ({"id": str(row["id"])} if "id" in row else {})


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
