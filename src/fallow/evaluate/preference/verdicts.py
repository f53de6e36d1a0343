"""Verdicts, written down as they come, so that an interrupted comparison goes on where it stopped."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fallow.errors import UserError
from fallow.evaluate.preference.responses import Pair
from fallow.files import append
from fallow.integrity import has_mark, with_mark
from fallow.json_text import parse_record
from fallow.shortages import refuse_shortage

Order = Literal["ab", "ba"]
"""Whose response was shown first."""

Better = Literal["a", "b", "tie"]

_FORMAT, _VERSION = "fallow-verdicts", 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge said of one pair in one order."""

    key: str
    order: Order
    better: Better | None
    """None: the answer could not be understood."""

    reply: str
    """The judge's line, as it was."""

    @property
    def score(self) -> float | None:
        """Of a: 1 for a win, 0 for a loss, one half for a tie."""
        return None if self.better is None else {"a": 1.0, "b": 0.0, "tie": 0.5}[self.better]


class Verdicts:
    """A JSON Lines file: a head that says what is compared and by whom, then one verdict a line.

    A line is complete and has its checksum, or it does not count: it and all lines after it are removed.

    Args:
        path: the file; None keeps the verdicts in memory only.
        pairs: what is compared.
        judge: the command.

    Raises:
        UserError: the file holds something else, or verdicts of other responses or of another judge.
    """

    def __init__(self, path: Path | None, pairs: Sequence[Pair], judge: str) -> None:
        self.path = path
        self._head = {"format": _FORMAT, "version": _VERSION, "responses": _digest(pairs), "judge": judge}
        self._known = {pair.key for pair in pairs}
        self._found: dict[tuple[str, Order], Verdict] = {}
        if path is not None and path.exists():
            self._read(path)

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: str, order: Order) -> Verdict | None:
        """The verdict on a pair in an order, if there is one."""
        return self._found.get((key, order))

    def add(self, verdict: Verdict) -> None:
        """Write one down; it is on the disk when this returns.

        Raises:
            UserError: the disk is full, or the file cannot be written.
        """
        begun = bool(self._found)
        self._found[verdict.key, verdict.order] = verdict
        if self.path is None:
            return
        try:
            head = [] if self.path.exists() and self.path.stat().st_size else [self._head]
            if head and begun:
                raise UserError(f"{self.path} was removed while verdicts were being added. Run the same command again")
            with refuse_shortage(self.path):
                append(self.path, b"".join(_line(value) for value in [*head, with_mark(asdict(verdict))]))
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}. Name another file") from None

    def _read(self, path: Path) -> None:
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}. Name another file") from None
        if b"\n" not in raw and _line(self._head).startswith(raw):
            good = 0  # the very first line was not finished
        else:
            head = _object(raw.partition(b"\n")[0])
            if head is None or head.get("format") != _FORMAT:
                raise UserError(f"{path} holds something else than verdicts. Name another file")
            for key, what in (("responses", "other responses"), ("judge", f"another judge ({head.get('judge')})")):
                if head.get(key) != self._head[key]:
                    raise UserError(f"{path} holds verdicts on {what}. Name another file, or delete it to begin anew")
            good = len(raw.partition(b"\n")[0]) + 1
            for line in raw[good:].splitlines(keepends=True):
                verdict = _verdict(_object(line)) if line.endswith(b"\n") else None
                if verdict is None or verdict.key not in self._known:
                    break
                self._found[verdict.key, verdict.order] = verdict
                good += len(line)
        if good < len(raw):
            with path.open("rb+") as file:
                file.truncate(good)


def _verdict(entry: Mapping[str, Any] | None) -> Verdict | None:
    if entry is None or not has_mark(entry):
        return None
    entry = {name: value for name, value in entry.items() if name in ("key", "order", "better", "reply")}
    if len(entry) != 4:
        return None
    known = entry["order"] in ("ab", "ba") and entry["better"] in ("a", "b", "tie", None)
    return Verdict(**entry) if known and isinstance(entry["key"], str) and isinstance(entry["reply"], str) else None


def _digest(pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps(asdict(pair)).encode())
    return digest.hexdigest()[:16]


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = parse_record(line.decode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
