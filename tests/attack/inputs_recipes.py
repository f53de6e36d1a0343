"""Bad recipes and flags: every leaf of every shipped recipe x values of other types, YAML that is no recipe, odd flags.

`cases` are checked in this process, without training; `inputs` are the same as commands, for `make attack`.
"""

import contextlib
import io
import json
import math
import random
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from fallow.cli.main import COMMANDS, main
from fallow.config import flatten, write
from fallow.errors import UserError
from fallow.run.recipe import Recipe, load
from fallow.run.shipped import document_of, names
from tests.attack.cases import Input

VALUES: Mapping[str, Any] = {
    "nothing": None,
    "empty text": "",
    "blank": " ",
    "text": "x",
    "umlaut": "\u00fc",
    "NUL": "a\0b",
    "not UTF-8": "a\udcff",
    "parent folder": "../..",
    "long text": "y" * 100_000,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "one": 1,
    "prime": 999_999_937,
    "10^9": 10**9,
    "2^63": 2**63,
    "2^64": 2**64,
    "400 digits": 10**400,
    "1e30": 1e30,
    "-1e30": -1e30,
    "tiny": 1e-300,
    "half": 0.5,
    "nan": math.nan,
    "inf": math.inf,
    "number in quotes": "1e-3",
    "flag": "--x",
    "empty list": [],
    "list": [1, "x", None],
    "long list": ["x"] * 20_000,
    "nested": [[[[]]]],
    "empty mapping": {},
    "mapping": {"a": 1},
    "unicode key": {"\u00fc": {"": None}},
}
"""What is put in the place of a value, by what it is."""

TEXTS: Mapping[str, str] = {
    "empty": "",
    "a list": "- 1",
    "a tag": "name: !!bool maybe",
    "a lying tag": "name: !!map [1]",
    "an object": "name: !!python/object/apply:os.system [echo]",
    "a mapping in itself": "name: &s {<<: *s}",
    "a list in itself": "name: &s [*s]",
    "a bomb": "notes: &a [x, x, x]\n" + "".join(f"k{i}: &a [*a, *a, *a, *a, *a]\n" for i in range(20)),
    "deep": "[" * 50_000,
    "many keys": "".join(f"k{i}: 1\n" for i in range(30_000)),
    "a key twice": "name: a\nname: b",
    "a control character": "name: \x01",
    "two documents": "a: 1\n---\nb: 2",
    "an open quote": 'name: "x',
    "many digits": "seed: " + "9" * 5_000,
}
"""Files that are no recipe."""

FLAGS = ("", "x", "-1", "0", "nan", "inf", "1e30", "9" * 5_000, "\u00fc", "a\0b", "a\udcff", "[", "{", "--", "/", "1.5")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A shipped recipe with one value changed."""

    recipe: str
    key: str
    kind: str
    """A key of `VALUES`."""

    @property
    def name(self) -> str:
        return f"{self.recipe}: {self.key} = {self.kind}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a case ended: refused, accepted, traceback, unnamed (more than a line) or hang."""

    outcome: str
    text: str = ""
    seconds: float = 0.0


class _LateError(BaseException):
    pass


def cases(recipes: tuple[str, ...] = ()) -> Iterator[Case]:
    """Every leaf of the recipes (by default all shipped ones) x every value."""
    for recipe in recipes or tuple(names()):
        for key in flatten(document_of(recipe)):
            for kind in VALUES:
                yield Case(recipe=recipe, key=key, kind=kind)


def sample(num: int, seed: int = 0) -> list[Case]:
    """So many of all cases, always the same for a seed."""
    return random.Random(seed).sample(list(cases()), num)


def judge(case: Case, limit: float = 20.0) -> Verdict:
    """Read the recipe, and build its first stage without memory, in this process."""
    return _timed(lambda: _check(load(case.recipe, [(case.key, VALUES[case.kind])])), limit)


def judge_flags(argv: list[str], limit: float = 60.0) -> Verdict:
    """A whole command in this process; what it may do is up to its arguments."""
    said = io.StringIO()

    def command() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = main(argv)
        if code:
            raise UserError(said.getvalue().strip() or "\n")

    return _timed(command, limit)


def bad_flags(seed: int = 0) -> Iterator[list[str]]:
    """Commands with a flag that no command has, and with every flag of their own set to odd values; nothing is trained.

    Every command is given a folder or file that is not there, so that none can do work.
    """
    for command in COMMANDS:
        if command in ("demo", "doctor", "tables"):  # they need no argument, and would work
            continue
        for value in FLAGS:
            yield [command, value]
            yield [command, "/nowhere", "--no-such-flag", value]
            yield [command, "/nowhere", "--output", value]
    for value in FLAGS:
        yield ["estimate", "spdf-demo", "--processes", value]
        yield ["estimate", "spdf-demo", "--epoch-tokens", f"code={value}"]
        yield ["generate", "/nowhere", "--prompt", "x", "--num-beams", value]
        yield ["generate", "/nowhere", "--prompt", "x", "--max-new-tokens", value]


def inputs(seed: int) -> Iterator[Input]:
    """The cases as commands on a recipe of the attacked run, for processes of their own."""
    for kind, text in TEXTS.items():
        yield Input(
            name=f"recipe: {kind}",
            argv=("run", "bad.yaml", "--output", "other"),
            files={"bad.yaml": text.encode()},
            accepts=False,
        )
    every = list(cases())
    random.Random(seed).shuffle(every)
    for case in every:
        document = document_of(case.recipe)
        with contextlib.suppress(Exception):  # a value that YAML itself cannot hold is no file
            _put(document, case.key.split("."), VALUES[case.kind])
            content = write(_plain(document)).encode()
            argv = ("run", "bad.yaml", "--print")
            yield Input(name=case.name, argv=argv, files={"bad.yaml": content})


def _check(recipe: Recipe) -> None:
    from fallow.run.orchestrate import check_stages

    with contextlib.redirect_stderr(io.StringIO()) as said:
        first = recipe.stages[0]
        if first.model.config:
            check_stages(recipe, [first.name])
    if said.getvalue():
        raise RuntimeError(f"it says: {said.getvalue()[:300]}")


def _timed(work: Any, limit: float) -> Verdict:
    def stop(_: int, __: FrameType | None) -> None:
        raise _LateError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    begun, outcome, text = time.monotonic(), "accepted", ""
    try:
        work()
    except UserError as error:
        text = str(error)
        outcome = "refused" if text.strip() and "\n" not in text.strip() and "Traceback" not in text else "unnamed"
    except SystemExit as error:
        outcome = "accepted" if not error.code else "unnamed"
    except _LateError:
        outcome = "hang"
    except Exception as error:
        outcome, text = "traceback", repr(error)[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return Verdict(outcome=outcome, text=text, seconds=time.monotonic() - begun)


def _put(container: Any, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        container = container[int(key)] if isinstance(container, list) else container[key]
    if isinstance(container, list):
        container[int(keys[-1])] = value
    else:
        container[keys[-1]] = value


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
