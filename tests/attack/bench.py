"""Undisturbed runs, made once, which every attack copies; and how the folders of two runs differ."""

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attack import families
from tests.attack.child import Ended, run

OUT = "out"
"""The folder of a run, beside its recipe."""
COMMAND = ("run", "recipe.yaml", "--output", OUT)

_TIMES = {"seconds", "tokens_per_second", "speed", "seconds_per_step", "sha256"}
"""Keys of JSON that differ between equal runs, and the seal of records that hold them."""
_NOT_COMPARED = {"timing.jsonl", "report.html", "README.md", ".lock"}


@dataclass(frozen=True, kw_only=True)
class Base:
    """A family's undisturbed run, and the same killed on its way.

    Attributes:
        folder: holds recipe, texts and `out`, finished.
        halfway: the same folder as a kill left it; the last stage that had begun keeps checkpoints.
        changes: how often the run changes files.
        facts: of the finished run, see `facts`.
        seconds: that it took.
    """

    family: str
    folder: Path
    halfway: Path
    changes: int
    facts: dict[str, str] = field(repr=False)
    seconds: float = 1.0

    def copy(self, target: Path, *, halfway: bool = False) -> Path:
        """A copy to harm, in a folder that is not there yet or empty."""
        return shutil.copytree(self.halfway if halfway else self.folder, target, dirs_exist_ok=True)

    def fresh(self, target: Path) -> Path:
        """Recipe and texts alone."""
        families.write(target, self.family)
        return target


def make_base(folder: Path, family: str, *, halfway: bool = True) -> Base:
    """Run a family once undisturbed, and once killed where a late stage has checkpoints."""
    whole, half = folder / family, folder / f"{family}-half"
    families.write(whole, family)
    done = run(COMMAND, whole, count=True, limit=300)
    assert done.code == 0, f"the undisturbed run of {family} failed: {done.err}"
    for share in (0.8, 0.7, 0.85, 0.6, 0.75, 0.5) if halfway else ():
        shutil.rmtree(half, ignore_errors=True)
        families.write(half, family)
        run(COMMAND, half, kill_at=int(done.changes * share), limit=300)
        if list(half.glob(f"{OUT}/*/checkpoints/step-*")):
            break
    return Base(
        family=family, folder=whole, halfway=half, changes=done.changes, facts=facts(whole / OUT), seconds=done.seconds
    )


def facts(output: Path) -> dict[str, str]:
    """Every file of a run, by its name, as it has to be again: bytes, or JSON without times; the order counts."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.is_file() and path.name not in _NOT_COMPARED:
            content = path.read_bytes()
            found[name] = plain(content.decode()) if path.suffix == ".json" else content.decode("latin-1")
    return found


def plain(text: str) -> str:
    """JSON without times, in the order that it has; other text as it is."""
    try:
        return json.dumps(_without_times(json.loads(text)))
    except ValueError:
        return re.sub(r"\d+(\.\d+)? (minutes|seconds|tok/s)", "", text)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(v) for key, v in value.items() if key not in _TIMES}
    if isinstance(value, list):
        return [_without_times(v) for v in value]
    return value


def difference(there: dict[str, str], here: dict[str, str], *, ignore: Iterable[str] = ()) -> str:
    """What differs, in a few words; empty when nothing does."""
    skip = set(ignore)
    names = [n for n in sorted(there.keys() | here.keys()) if n not in skip and there.get(n) != here.get(n)]
    told = [
        f"{n} ({'missing' if n not in here else 'new' if n not in there else _first(there[n], here[n])})" for n in names
    ]
    return ", ".join(told[:3]) + (f" and {len(told) - 3} more" if len(told) > 3 else "")


def _first(one: str, other: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    if not one.isprintable() or not other.isprintable():
        return f"byte {at}"
    return f"...{one[max(0, at - 30) : at + 20]!r} -> {other[at : at + 20]!r}"


def again(folder: Path, base: Base, *, limit: float = 120) -> tuple[str, str]:
    """Give the same command, until it ends: held, or how its results differ from the undisturbed run's."""
    done: Ended = run(COMMAND, folder, limit=limit)
    if done.outcome != "accepted":
        return ("refusal" if done.outcome == "named" else done.outcome), done.why
    changed = difference(base.facts, facts(folder / OUT))
    return ("difference", changed) if changed else ("held", "")
