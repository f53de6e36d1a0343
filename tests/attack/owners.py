"""Two runs on one folder, folders that vanish, shortages that pass: told in one line, and nothing is lost."""

import random
import resource
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.attack.bench import COMMAND, OUT, Base, again, difference, facts
from tests.attack.cases import Task, spread
from tests.attack.child import Child, run


def tasks(bases: Sequence[Base], seed: int, num: int) -> list[Task]:
    """Pairs of runs, vanishing places and limits, for some families each."""
    found = []
    for number in range(10):
        base, own = bases[number % len(bases)], random.Random(f"{seed} pair {number}")
        found.append(Task(area="two runs", name=f"{base.family} (pair {number})", work=partial(_pair, base, own)))
    for number, place in enumerate(VANISHING * 2):
        base, own = bases[number % len(bases)], random.Random(f"{seed} vanish {number}")
        title = f"{base.family}: {place} ({number})"
        found.append(Task(area="vanishing", name=title, work=partial(_vanish, base, place, own)))
    for number, (title, limits) in enumerate(SHORTAGES):
        base = bases[number % len(bases)]
        found.append(Task(area="shortages", name=f"{base.family}: {title}", work=partial(_short, base, limits)))
    return spread(found, num)


def _pair(base: Base, draw: random.Random, scratch: Path) -> tuple[str, str]:
    """The same command twice: one of them is refused in one line, the other is not disturbed."""
    folder = base.fresh(scratch / "run")
    delay = draw.choice([0.0, 0.02, 0.3, 1.0]) * draw.random()
    first = Child(COMMAND, folder)
    time.sleep(delay)
    second = Child(COMMAND, folder)
    ended = [first.wait(120), second.wait(120)]
    wrong = [e for e in ended if e.outcome not in ("named", "accepted")]
    if wrong:
        return wrong[0].outcome, f"{delay:.3f} s apart: {wrong[0].why}"
    refused = [e for e in ended if e.code]
    if len(refused) == 2:
        return "refusal", f"both were refused, {delay:.3f} s apart: {refused[0].why}"
    if refused and "in use by" not in refused[0].line:
        return "unnamed", f"{delay:.3f} s apart: {refused[0].why}"
    told = difference(base.facts, facts(folder / OUT))
    return ("difference", told) if told else ("held", "")


VANISHING = (
    "",
    "recipe.yaml",
    "data",
    "tokenizer",
    "*",
    "*/log.jsonl",
    "*/model",
    "*/checkpoints",
    "*/recipe.yaml",
    "*/checkpoints/*",
)
"""What is removed from the folder of a run while it runs; the first is the folder itself, the others patterns."""


def _vanish(base: Base, place: str, draw: random.Random, scratch: Path) -> tuple[str, str]:
    """An error at once, or a complete folder: never success with something missing."""
    folder = base.fresh(scratch / "run")
    child = Child(COMMAND, folder)
    begun, wait = time.monotonic(), draw.random() * 1.5
    removed: list[str] = []
    while child.is_running and time.monotonic() - begun < 100:
        if time.monotonic() - begun > wait and not removed:
            for path in [folder / OUT] if not place else sorted((folder / OUT).glob(place)):
                if place == "*" and not (path / "recipe.yaml").is_file():
                    continue
                removed.append(path.name)
                shutil.rmtree(path, ignore_errors=True)
                path.unlink(missing_ok=True) if path.is_file() else None
        time.sleep(0.001)
    ended = child.wait(100)
    detail = f"{', '.join(removed) or 'nothing'} removed: {ended.why}"
    if ended.outcome == "named":
        return "named", detail
    if ended.outcome != "accepted":
        return ended.outcome, detail
    told = difference(base.facts, facts(folder / OUT)) if (folder / OUT).is_dir() else "the folder is missing"
    return (
        ("silent", f"{', '.join(removed)} removed after {wait:.2f} s, exit code 0: {told}")
        if told
        else ("harmless", "")
    )


SHORTAGES: tuple[tuple[str, dict[int, int]], ...] = (
    *((f"{mb} MB of memory above what is mapped", {-1: mb}) for mb in (1, 4, 16, 48, 96, 160, 240)),
    *((f"{num} open files", {resource.RLIMIT_NOFILE: num}) for num in (8, 10, 12, 16, 24, 48)),
    *((f"files of {kb} KB", {resource.RLIMIT_FSIZE: kb << 10}) for kb in (1, 5, 20, 100, 150, 300)),
)


def _short(base: Base, limits: dict[int, int], scratch: Path) -> tuple[str, str]:
    """A shortage of memory, threads, handles or room: one line that does not tell to delete; later the same bits."""
    folder = base.fresh(scratch / "run")
    before = partial(_limit_memory, limits[-1]) if -1 in limits else None
    ended = run(COMMAND, folder, limits={k: v for k, v in limits.items() if k >= 0}, before=before, limit=120)
    given_up = ended.outcome == "crash" and -1 in limits  # a native library ends the process: as good as a kill
    if ended.outcome not in ("named", "accepted") and not given_up:
        return ended.outcome, ended.why
    if any(word in ended.line.lower() for word in ("delete", "remove it", "damaged", "--restart")):
        return "silent", f"a shortage is told as damage: {ended.line}"
    outcome, detail = again(folder, base)
    if outcome != "held":
        return outcome, f"{ended.line}; then {detail}"
    return ("held" if given_up else ended.outcome), ended.line


def _limit_memory(megabytes: int) -> None:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (megabytes << 20),) * 2)
