"""What an attack is made of: a bad input, a task, its result, and which outcomes are a failure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOOD = {
    "named": "told in one line, exit code 2",
    "passed over": "told, and the same results",
    "harmless": "the same results",
    "accepted": "a legal input: exit code 0",
    "held": "what was promised came true",
}
BAD = {
    "silent": "other results, or altered records shown, without a word",
    "traceback": "an error of Python reached the user",
    "unnamed": "refused, but not in one line that names the file or key",
    "hang": "over the time limit",
    "crash": "ended by a signal",
    "difference": "other bits than in the undisturbed run",
    "refusal": "the same command was refused after a kill",
    "loss": "what was told finished was not there any more",
    "breach": "something of an attacker ran, was read, or was written",
}


@dataclass(frozen=True, kw_only=True)
class Input:
    """One command with something wrong in it.

    Attributes:
        name: says what is wrong, in a few words.
        argv: what stands behind `fallow`.
        files: written into the folder that the command runs in, by relative names.
        environment: variables on top of the usual ones; None removes one.
        stdin: what the command can read there.
        streams: number of a standard stream -> what it is opened on, such as /dev/full; "" closes it.
        accepts: whether exit code 0 is right as well: the input is odd but legal.
        prepare: the last thing before the command, in its folder: for links, devices and permissions.
    """

    name: str
    argv: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    environment: Mapping[str, str | None] = field(default_factory=dict)
    stdin: bytes = b""
    streams: Mapping[int, str] = field(default_factory=dict)
    accepts: bool = True
    prepare: Callable[[Path], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one case ended."""

    area: str
    name: str
    outcome: str
    detail: str = ""
    weight: int = 1
    """What it counts: a run that is killed five times is five kills."""

    @property
    def is_bad(self) -> bool:
        return self.outcome in BAD


@dataclass(frozen=True, kw_only=True)
class Task:
    """Work for a process of its own: it gets an empty folder, and gives outcome and detail."""

    area: str
    name: str
    work: Callable[[Path], tuple[str, str]]
    weight: int = 1
    limit: float = 300.0


def spread(items: Sequence[Any], num: int) -> list[Any]:
    """`num` of the items, evenly over all; all where there are fewer."""
    num = min(num, len(items))
    return [items[i * len(items) // num] for i in range(num)]


def table(results: Iterable[Result]) -> str:
    """Counts by area and outcome, as text; outcomes that never occurred have no column."""
    counts = counts_of(results)
    outcomes = [name for name in (*GOOD, *BAD) if any(name in row for row in counts.values())]
    head = ["area", "cases", *outcomes]
    rows = [[area, str(sum(row.values())), *(str(row.get(o, 0)) for o in outcomes)] for area, row in counts.items()]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    return "\n".join(lines)


def counts_of(results: Iterable[Result]) -> dict[str, dict[str, int]]:
    """Area -> outcome -> cases, and one more row for all."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        counts.setdefault(result.area, Counter())[result.outcome] += result.weight
    counts["all"] = sum(counts.values(), Counter())
    return {area: dict(row) for area, row in counts.items()}
