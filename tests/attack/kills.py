"""SIGKILL at any moment, then the same command: the same bits as the undisturbed run, and no refusal."""

import random
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.attack.bench import COMMAND, OUT, Base, again, difference, facts
from tests.attack.cases import Task
from tests.attack.child import Child, run

KILLS = 5
"""In one run, before it may end."""


def tasks(bases: Sequence[Base], seed: int, num: int) -> list[Task]:
    """About `num` kills, in every family, and in the commands that write folders and texts."""
    draw = random.Random(seed)
    found: list[Task] = []
    makers = [_sweep, _sweep, _random, _temporary, _restart]
    while sum(task.weight for task in found) < num:
        number = len(found)
        base, maker = bases[number % len(bases)], makers[number // len(bases) % len(makers)]
        own = random.Random(f"{seed} kill {number}")
        title = f"{base.family}: {maker.__name__.strip('_')} (run {number})"
        found.append(Task(area="kills", name=title, weight=KILLS, work=partial(maker, base, own)))
    sparse = next((base for base in bases if base.family == "sparse"), None)
    if sparse is not None:
        for name, argv in COMMANDS.items():
            own = random.Random(f"{seed} {name}")
            found.append(
                Task(area="kills of other commands", name=name, weight=KILLS, work=partial(_command, sparse, argv, own))
            )
    draw.shuffle(found)
    return found


def _sweep(base: Base, draw: random.Random, scratch: Path) -> tuple[str, str]:
    """Killed just before changes of files: in writers, in saves, between a folder and its record."""
    folder = base.fresh(scratch / "run")
    left = base.changes
    places = []
    for _ in range(KILLS):
        at = draw.randrange(1, max(left, 2)) if draw.random() < 0.8 else draw.randrange(1, 12)
        places.append(at)
        ended = run(COMMAND, folder, kill_at=at, count=True, limit=120)
        if ended.code == 0:
            break
        if ended.code != -9 or ended.is_late:
            return ("refusal" if ended.outcome == "named" else ended.outcome), f"after kills at {places}: {ended.why}"
        left = max(left - ended.changes, 12)
    outcome, detail = again(folder, base)
    return outcome, detail and f"after kills at changes {places}: {detail}"


def _random(base: Base, draw: random.Random, scratch: Path) -> tuple[str, str]:
    """Killed after a random time, also in the middle of a computation or a native writer."""
    return _killed_when(base, scratch, lambda begun, folder: time.monotonic() - begun > limit(), limit := _Drawn(draw))


class _Drawn:
    """Seconds until a kill: mostly within the time that a run takes, drawn anew for each."""

    def __init__(self, draw: random.Random) -> None:
        self.draw, self.value = draw, 0.0
        self.next()

    def next(self) -> None:
        self.value = self.draw.choice([0.05, 0.3, 1.0, 3.0]) * self.draw.random()

    def __call__(self) -> float:
        return self.value


def _temporary(base: Base, draw: random.Random, scratch: Path) -> tuple[str, str]:
    """Killed while a name that is not the final one exists."""
    wait = _Drawn(draw)

    def now(begun: float, folder: Path) -> bool:
        late = time.monotonic() - begun > wait()
        return late and any(path.name.endswith((".tmp", ".partial")) for path in folder.rglob(".*"))

    return _killed_when(base, scratch, now, wait)


def _killed_when(base: Base, scratch: Path, now: Callable[[float, Path], bool], wait: _Drawn) -> tuple[str, str]:
    folder = base.fresh(scratch / "run")
    told = []
    for _ in range(KILLS):
        child = Child(COMMAND, folder)
        begun = time.monotonic()
        while child.is_running and time.monotonic() - begun < 120:
            if now(begun, folder):
                told.append(f"{time.monotonic() - begun:.3f}")
                child.kill()
                break
            time.sleep(0.0005)
        ended = child.wait(120)
        wait.next()
        if ended.code == 0:
            break
        if ended.code != -9 or ended.is_late:
            return ("refusal" if ended.outcome == "named" else ended.outcome), f"after kills at {told} s: {ended.why}"
    outcome, detail = again(folder, base)
    return outcome, detail and f"after kills at {told} s: {detail}"


def _restart(base: Base, draw: random.Random, scratch: Path) -> tuple[str, str]:
    """Another recipe begins anew in a finished folder and is killed; its results are its own in the end."""
    folder = base.copy(scratch / "run")
    changed = (*COMMAND, "--seed", "7")
    calm = base.fresh(scratch / "calm")
    expected = run(changed, calm, limit=120)
    if expected.code:
        return expected.outcome, expected.why
    places = []
    for _ in range(KILLS):
        at = draw.randrange(1, 200 if draw.random() < 0.8 else base.changes)
        places.append(at)
        ended = run((*changed, "--restart"), folder, kill_at=at, limit=120)
        if ended.code not in (0, -9) or ended.is_late:
            return ("refusal" if ended.outcome == "named" else ended.outcome), f"killed at {places}: {ended.why}"
    done = run((*changed, "--restart"), folder, limit=120)
    if done.code:
        return ("refusal" if done.outcome == "named" else done.outcome), f"killed at {places}: {done.why}"
    told = difference(facts(calm / OUT), facts(folder / OUT))
    return ("difference", f"killed at {places}: {told}") if told else ("held", "")


TARGET = "made"
COMMANDS: dict[str, tuple[str, ...]] = {
    "prepare": (
        "prepare", "text.jsonl", "more.jsonl", "--vocab-size", "300", "--valid-share", "0.2", "--output", TARGET,
    ),
    "generate --texts": (
        "generate", f"{OUT}/tune/model", "--pairs", "--prompt-file", "prompts.txt", "--max-new-tokens", "4",
        "--batch-size", "2", "--texts", f"{TARGET}/texts.jsonl",
    ),
    "evaluate --texts": (
        "evaluate", f"{OUT}/tune/model", "--format", "jsonl", "--data", "pairs.jsonl", "--max-new-tokens", "4",
        "--max-contexts", "12", "--texts", f"{TARGET}/texts.jsonl",
    ),
    "cut": ("cut", f"{OUT}/tune/model", "--output", TARGET, "--layers", "1", "--inner", "64"),
    "merge": ("merge", "unmerged", "--output", TARGET),
    "export": ("export", "unmerged", "--output", TARGET),
}  # fmt: skip
"""Commands beside `run` that write folders or texts; `unmerged` is a folder that `_command` makes."""


def _command(base: Base, argv: tuple[str, ...], draw: random.Random, scratch: Path) -> tuple[str, str]:
    folder = base.copy(scratch / "run")
    (folder / "prompts.txt").write_text("seed and field\nrain and crop\nrest\nsoil and the\nlies and grows\na\nof\n")
    if "unmerged" in argv:
        made = run(partial(_save_unmerged, f"{OUT}/tune/model"), folder)
        if made.code:
            return made.outcome, made.why
    for name in argv:
        if name.startswith(f"{TARGET}/"):
            (folder / TARGET).mkdir()
    calm = shutil.copytree(folder, scratch / "calm")
    expected = run(argv, calm, count=True)
    if expected.code:
        return expected.outcome, expected.why
    places = []
    for _ in range(KILLS):
        places.append(draw.randrange(1, expected.changes + 1))
        ended = run(argv, folder, kill_at=places[-1])
        if ended.code == 0:
            break
        if ended.outcome == "named" and not difference(facts(calm / TARGET), facts(folder / TARGET)):
            break  # killed when all was done: the folder is whole, and the command says that it is there
        if ended.code != -9 or ended.is_late:
            return ("refusal" if ended.outcome == "named" else ended.outcome), f"killed at {places}: {ended.why}"
    else:
        ended = run(argv, folder)
        if ended.code and difference(facts(calm / TARGET), facts(folder / TARGET)):  # whole: it may say so
            return ("refusal" if ended.outcome == "named" else ended.outcome), f"killed at {places}: {ended.why}"
    told = difference(facts(calm / TARGET), facts(folder / TARGET))
    return ("difference", f"killed at {places}: {told}") if told else ("held", "")


def _save_unmerged(model: str) -> int:
    import fallow

    converted = fallow.load(model)
    fallow.convert(converted, "lora", rank=2, pretrained=True)
    fallow.save(converted, "unmerged")
    return 0
