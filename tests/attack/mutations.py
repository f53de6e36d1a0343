"""Every kind of file that a run writes, altered in every way; then all that uses it: it must notice, or not care."""

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.attack.bench import COMMAND, OUT, Base, difference, facts, plain
from tests.attack.cases import Task
from tests.attack.child import run
from tests.attack.families import STAGES

Harm = Callable[[Path, random.Random], bool]
"""Alters a file; false where there is nothing of that kind in it."""


def flip(path: Path, draw: random.Random) -> bool:
    content = bytearray(path.read_bytes())
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    return bool(content)


def flip_in_the_last_half(path: Path, draw: random.Random) -> bool:
    """Where the numbers of weights lie, behind the header."""
    content = bytearray(path.read_bytes())
    if content:
        content[draw.randrange(len(content) // 2, len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    return bool(content)


def truncate(path: Path, draw: random.Random) -> bool:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content) or 1)])
    return bool(content)


def lose_the_last_line(path: Path, draw: random.Random) -> bool:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    return len(lines) > 1


def empty(path: Path, draw: random.Random) -> bool:
    path.write_bytes(b"")
    return True


def zeros(path: Path, draw: random.Random) -> bool:
    """What a power loss leaves of a file that was not flushed."""
    path.write_bytes(bytes(path.stat().st_size))
    return True


def remove(path: Path, draw: random.Random) -> bool:
    path.unlink()
    return True


def append(path: Path, draw: random.Random) -> bool:
    path.write_bytes(path.read_bytes() + draw.choice([b"\n", b"0", b"{}\n", b"\0\0\0\0", path.read_bytes()[-40:]]))
    return True


def become_a_folder(path: Path, draw: random.Random) -> bool:
    path.unlink()
    path.mkdir()
    return True


def change_a_digit(path: Path, draw: random.Random) -> bool:
    """Of a text: one digit becomes another one."""
    content = path.read_bytes()
    places = [match.start() for match in re.finditer(rb"(?<![\w-])\d|(?<=\d)\d(?![\w-])", content)]
    if not places or b"\0" in content:
        return False
    at = draw.choice(places)
    path.write_bytes(content[:at] + str((content[at] - 48 + draw.randrange(1, 9)) % 10).encode() + content[at + 1 :])
    return True


def change_a_letter(path: Path, draw: random.Random) -> bool:
    """Of a text: one letter inside a word becomes another one."""
    content = path.read_bytes()
    places = [match.start() for match in re.finditer(rb"(?<=[a-z])[a-z](?=[a-z])", content)]
    if not places or b"\0" in content:
        return False
    at = draw.choice(places)
    path.write_bytes(content[:at] + bytes([97 + (content[at] - 97 + draw.randrange(1, 25)) % 26]) + content[at + 1 :])
    return True


def swap(path: Path, draw: random.Random) -> bool:
    """With the file of the same name in another place of the run."""
    root = next(parent for parent in path.parents if parent.name == OUT)
    others = [p for p in sorted(root.rglob(path.name)) if p != path and p.read_bytes() != path.read_bytes()]
    if others:
        shutil.copyfile(draw.choice(others), path)
    return bool(others)


def lose_a_key(path: Path, draw: random.Random) -> bool:
    return _edit(path, draw, lambda holder, key: holder.pop(key))


def other_type(path: Path, draw: random.Random) -> bool:
    values = [None, [], {}, "x", -1, 1e308, True, [[[]]]]
    return _edit(path, draw, lambda holder, key: holder.__setitem__(key, draw.choice(values)))


def _edit(path: Path, draw: random.Random, change: Callable[[dict[str, Any], str], Any]) -> bool:
    """Change one key of one object, of a JSON file or of a line of a JSON Lines file; leaves as often as roots."""
    if path.suffix not in (".json", ".jsonl"):
        return False
    lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
    if not lines:
        return False
    number = draw.randrange(len(lines))
    value = json.loads(lines[number])
    places = [(holder, key) for holder in _objects(value) for key in holder]
    if not places:
        return False
    change(*draw.choice(places))
    lines[number] = json.dumps(value, indent=1 if path.suffix == ".json" else None)
    path.write_text("\n".join(lines) + "\n")
    return True


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner)


HARMS: tuple[Harm, ...] = (
    flip, flip_in_the_last_half, truncate, lose_the_last_line, empty, zeros, remove, append, become_a_folder,
    change_a_digit, change_a_letter, swap, lose_a_key, other_type,
)  # fmt: skip

_UNUSED = {"README.md", "timing.jsonl", "report.html"}
"""Written for people, and read by nothing: a change of them stays in them."""


def tasks(bases: Sequence[Base], seed: int, num: int) -> list[Task]:
    """`num` mutations, spread over families, files, and kinds of harm; a third of them in a run that was killed."""
    draw = random.Random(seed)
    whole = [(base, name, False) for base in bases for name in _files(base.folder / OUT)]
    half = [(base, name, True) for base in bases for name in _files(base.halfway / OUT)]
    found: list[Task] = []
    pools = [_endless(whole, draw), _endless(whole, draw), _endless(half, draw)]
    for number in range(num):
        base, name, halfway = next(pools[number % len(pools)])
        own = random.Random(f"{seed} {number}")
        title = f"{base.family}{' halfway' if halfway else ''}: {name} (mutation {number})"
        found.append(Task(area="mutations", name=title, work=partial(_one, base, name, halfway, own)))
    return found


def _endless(places: list[Any], draw: random.Random) -> Iterator[Any]:
    while True:
        draw.shuffle(places := list(places))
        yield from places


def _files(output: Path) -> list[str]:
    return [path.relative_to(output).as_posix() for path in sorted(output.rglob("*")) if path.is_file()]


def _one(base: Base, name: str, halfway: bool, draw: random.Random, scratch: Path) -> tuple[str, str]:
    """Harm one file, then use it in every way that there is: the worst outcome counts."""
    harmed = base.copy(scratch / "harmed", halfway=halfway)
    harms = list(HARMS)
    draw.shuffle(harms)
    before = (harmed / OUT / name).read_bytes()
    harm = next(h for h in harms if h(harmed / OUT / name, draw) and _content(harmed / OUT / name) != before)
    outcomes = []
    for use in _uses(base, name, halfway):
        folder = shutil.copytree(harmed, scratch / use.__name__)
        outcome, detail = use(base, name, folder)
        if outcome not in ("named", "harmless", "passed over"):
            return outcome, f"{harm.__name__}, then {use.__name__}: {detail}"
        outcomes.append((outcome, detail))
    told = [o for o in outcomes if o[0] != "harmless"]
    return (told or outcomes)[0]


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


Use = Callable[[Base, str, Path], tuple[str, str]]


def _uses(base: Base, name: str, halfway: bool) -> list[Use]:
    """What reads a file: the same command, later stages made anew, the model's own users, the report."""
    if halfway:
        return [same_command]
    first, _, rest = name.partition("/")
    uses: list[Use] = [report, same_command]
    if first in STAGES[base.family]:
        if first != STAGES[base.family][-1]:
            uses.append(later_stages)
        if rest.startswith(("model/", "unmerged/")):
            uses += [evaluate, generate] if base.family != "labels" else [evaluate]
    elif first in ("tokenizer", "data"):
        uses += [last_stage, all_stages]
    return uses


def same_command(base: Base, name: str, folder: Path) -> tuple[str, str]:
    return _run_again(base, name, folder)


def later_stages(base: Base, name: str, folder: Path) -> tuple[str, str]:
    """The stages behind the one with the harmed file are made anew."""
    stages = STAGES[base.family]
    for stage in stages[stages.index(name.partition("/")[0]) + 1 :]:
        shutil.rmtree(folder / OUT / stage)
    return _run_again(base, name, folder)


def last_stage(base: Base, name: str, folder: Path) -> tuple[str, str]:
    shutil.rmtree(folder / OUT / STAGES[base.family][-1])
    return _run_again(base, name, folder)


def all_stages(base: Base, name: str, folder: Path) -> tuple[str, str]:
    for stage in STAGES[base.family]:
        shutil.rmtree(folder / OUT / stage)
    return _run_again(base, name, folder)


def _run_again(base: Base, name: str, folder: Path) -> tuple[str, str]:
    done = run(COMMAND, folder)
    if done.outcome != "accepted":
        return _judged(name, done.outcome, done.why)
    changed = difference(base.facts, facts(folder / OUT), ignore=[name])
    return _verdict(name, changed, done.err)


def evaluate(base: Base, name: str, folder: Path) -> tuple[str, str]:
    kind = ("--data", "text.jsonl") if base.family != "labels" else ("--format", "sst2", "--data", "dev.tsv")
    return _compared(base, name, folder, "evaluate", _model(name), *kind, "--json", "--context", "16")


def generate(base: Base, name: str, folder: Path) -> tuple[str, str]:
    return _compared(
        base, name, folder, "generate", _model(name), "--prompt", "the field", "--max-new-tokens", "6", "--json"
    )


def report(base: Base, name: str, folder: Path) -> tuple[str, str]:
    return _compared(base, name, folder, "report", OUT, "--json")


def _model(name: str) -> str:
    return f"{OUT}/" + "/".join(name.split("/")[:2])


def _compared(base: Base, name: str, folder: Path, *argv: str) -> tuple[str, str]:
    """A command that prints, in the harmed folder and in a whole one."""
    done = run(argv, folder)
    if done.outcome != "accepted":
        if done.outcome == "named" and run(argv, base.folder).outcome == "named":
            return "harmless", "refused for the whole folder, too"
        return _judged(name, done.outcome, done.why)
    whole = run(argv, base.folder)
    changed = (
        ""
        if plain(whole.out) == plain(done.out)
        else difference({"output": plain(whole.out)}, {"output": plain(done.out)})
    )
    return _verdict(name, changed, done.err)


def _verdict(name: str, changed: str, err: str) -> tuple[str, str]:
    if changed:
        return "silent", changed
    return ("passed over" if _names(err, name) and _WORDS.search(err) else "harmless"), ""


_WORDS = re.compile(r"damaged|passed over|changed|missing|absent|again|lost|not there|another|left out")


def _judged(name: str, outcome: str, why: str) -> tuple[str, str]:
    if outcome == "named" and not _names(why, name):
        return "unnamed", f"the line does not say which file or folder: {why}"
    return outcome, why


def _names(text: str, name: str) -> bool:
    """Whether a message names a file, or a folder that it lies in."""
    parts = name.split("/")
    return any(part in text for part in parts if part != OUT)
