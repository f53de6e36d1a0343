"""Bad inputs: commands with something wrong in recipe, flags, data or environment, from all generators."""

import importlib.util
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from tests.attack.bench import Base
from tests.attack.cases import Input, Task, spread
from tests.attack.child import run

GENERATORS = {
    "recipes and flags": "tests.attack.inputs_recipes",
    "data files": "tests.attack.inputs_data",
    "environment": "tests.attack.inputs_environment",
}
"""Area -> a module with a function `inputs(seed)` that gives `Input`s; the same for the same seed."""


def tasks(base: Base, seed: int, num: int) -> list[Task]:
    """`num` inputs in all, the same share of each generator as far as it goes."""
    found: dict[str, list[Input]] = {}
    for area, name in GENERATORS.items():
        if importlib.util.find_spec(name) is None:
            continue
        generate: Callable[[int], Iterator[Input]] = importlib.import_module(name).inputs
        found[area] = list(itertools.islice(generate(seed), num))
    shares = _shares({area: len(inputs) for area, inputs in found.items()}, num)
    return [
        Task(area=area, name=item.name, work=partial(_one, base, item))
        for area, inputs in found.items()
        for item in spread(inputs, shares[area])
    ]


def _shares(lengths: dict[str, int], num: int) -> dict[str, int]:
    """As equal as lengths allow, `num` in all."""
    shares: dict[str, int] = {}
    for place, (area, length) in enumerate(sorted(lengths.items(), key=lambda item: item[1])):
        shares[area] = min(length, (num - sum(shares.values())) // (len(lengths) - place))
    return shares


def _one(base: Base, item: Input, scratch: Path) -> tuple[str, str]:
    folder = shutil.copytree(base.folder, scratch / "case")
    for name, content in item.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if item.prepare is not None:
        item.prepare(folder)
    before = partial(_redirect, item.streams)
    done = run(item.argv, folder, environment=item.environment, stdin=item.stdin, before=before, limit=60)
    if done.outcome == "accepted" and not item.accepts:
        return "silent", f"accepted: fallow {' '.join(item.argv)}: {done.out[-200:]}"
    if done.outcome in ("named", "accepted") or (done.outcome == "unnamed" and item.streams):  # it may have no voice
        return "named" if done.code else "accepted", done.line
    return done.outcome, f"fallow {' '.join(item.argv)[:300]}: {done.why[-600:]}"


def _redirect(streams: Mapping[int, str]) -> None:
    for number, target in streams.items():
        os.close(number)
        if target:
            os.open(target, os.O_RDONLY if number == 0 else os.O_WRONLY)  # gets the lowest number, which is free now
