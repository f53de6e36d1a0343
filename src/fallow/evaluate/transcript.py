"""Generated texts, written down as they come, so that an interrupted evaluation goes on where it stopped."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fallow.errors import UserError
from fallow.files import append, atomic
from fallow.integrity import has_mark, with_mark
from fallow.json_text import parse_record
from fallow.shortages import refuse_shortage

_FORMAT, _VERSION = "fallow-texts", 2


@dataclass(frozen=True, slots=True)
class Generated:
    """A text and its length before it was cut or cleaned."""

    text: str

    num_tokens: int
    """Without the stop token."""


class Transcript:
    """A JSON Lines file: a head that says what made the texts, then {"context", "text", "num_tokens", "prompt",
    "check"}, the last a checksum of the others.

    A line is complete and has its checksum, or it does not count: it and all lines after it are removed.

    Args:
        path: the file, made with the first texts; None keeps the texts in memory only.
        made_by: what the texts depend on, see `fingerprint`; plain values.
        replace: begin anew where the file holds texts of something else, instead of refusing it.

    Raises:
        UserError: the file was not written by fallow, or by another model or other settings.

    >>> texts = Transcript(None, {})
    >>> texts.add([([1, 2], "a context", Generated("its text", 2))])
    >>> texts[[1, 2]].text, [3] in texts
    ('its text', False)
    """

    def __init__(self, path: Path | None, made_by: Mapping[str, Any], *, replace: bool = False) -> None:
        self.path = path
        self._head = {"format": _FORMAT, "version": _VERSION, **made_by}
        self._lines: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            self._read(path, replace)

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, prompt: Sequence[int]) -> bool:
        return _key(prompt) in self._lines

    def __getitem__(self, prompt: Sequence[int]) -> Generated:
        line = self._lines[_key(prompt)]
        return Generated(line["text"], line["num_tokens"])

    def add(self, texts: Iterable[tuple[Sequence[int], str, Generated]]) -> None:
        """Write down prompts, contexts and texts; they are on the disk when this returns.

        Raises:
            UserError: the disk is full, or the file cannot be written.
        """
        lines = [
            with_mark({"context": context, **asdict(text), "prompt": _key(prompt)}) for prompt, context, text in texts
        ]
        new = [line for line in lines if line["prompt"] not in self._lines]
        begun = bool(self._lines)
        self._lines |= {line["prompt"]: line for line in new}
        if self.path is None or not new:
            return
        try:
            head = [] if self.path.exists() and self.path.stat().st_size else [self._head]
            if head and begun:
                raise UserError(f"{self.path} was removed while texts were being added. Run the same command again")
            with refuse_shortage(self.path):
                append(self.path, b"".join(_line(value) for value in [*head, *new]))
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}. Name another file") from None

    def sort(self, prompts: Iterable[Sequence[int]]) -> None:
        """Write the file once more with the lines of these prompts first, in this order."""
        first = dict.fromkeys(_key(prompt) for prompt in prompts)
        order = [*(key for key in first if key in self._lines), *(key for key in self._lines if key not in first)]
        if self.path is None or order == list(self._lines):
            return
        self._lines = {key: self._lines[key] for key in order}
        with atomic(self.path) as temporary:
            temporary.write_bytes(b"".join(_line(value) for value in [self._head, *self._lines.values()]))

    def _read(self, path: Path, replace: bool) -> None:
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}. Name another file") from None
        head, good = _object(raw.partition(b"\n")[0]), 0
        torn = b"\n" not in raw and _line(self._head).startswith(raw)  # the very first line was not finished
        if not torn and (head is None or head.get("format") != _FORMAT):
            raise UserError(f"{path} holds something else than generated texts. Name another file")
        if head is not None and (wrong := _difference(head, self._head)):
            if not replace:
                raise UserError(
                    f"{path} holds texts of something else: {wrong}. Name another file, or delete it to begin anew"
                )
            torn = True
        if not torn:
            for line in raw.splitlines(keepends=True):
                entry = _object(line)
                if entry is None or not line.endswith(b"\n") or (good and not _is_text(entry)):
                    break
                if good:
                    self._lines[entry["prompt"]] = entry
                good += len(line)
        if good < len(raw):
            with path.open("rb+") as file:
                file.truncate(good)


def _key(prompt: Sequence[int]) -> str:
    return hashlib.sha256(" ".join(map(str, prompt)).encode()).hexdigest()[:16]


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = parse_record(line.decode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _is_text(entry: Mapping[str, Any]) -> bool:
    words = all(isinstance(entry.get(key), str) for key in ("context", "text", "prompt"))
    return words and isinstance(entry.get("num_tokens"), int) and has_mark(entry)


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What made the texts there and did not make those here, in words; empty when all agrees."""
    return "; ".join(
        f"{key} is {there.get(key, 'absent')} there and {here.get(key, 'absent')} here"
        for key in dict.fromkeys([*there, *here])
        if there.get(key) != here.get(key)
    )
