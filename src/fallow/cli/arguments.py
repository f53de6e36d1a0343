"""Flags of a command from its `Args` dataclass, through tyro; a bad flag is a `UserError` like any other mistake."""

import contextlib
import inspect
import io
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import tyro

from fallow.errors import UserError

T = TypeVar("T")

_SIDES = "|\u2502 "  # what tyro draws boxes with, in ASCII and in Unicode
_RULES = "-+\u2500\u256d\u256e\u256f\u2570"


def parse_args(cls: type[T], prog: str, argv: Sequence[str]) -> T:
    """The arguments of a command. `--help` prints the docstring of `cls`, its examples included, and exits with 0."""
    description = inspect.getdoc(cls) or ""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return cast(T, _parse(cls, prog, list(argv), description))
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(one_line(errors.getvalue())) from None


def _parse(cls: Any, prog: str, argv: list[str], description: str) -> Any:
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)
    return tyro.cli(cls, prog=prog, args=argv, description=description, config=config)


def one_line(box: str) -> str:
    r"""What tyro says in its box, without the box.

    >>> one_line("+- Bad --+\n| Unrecognized: --x |\n| ------- |\n| For help, run a --help |\n+--------+")
    'Unrecognized: --x. For help, run a --help'
    """
    parts: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:  # the first line is the top of the box, with a title
        text = line.strip(_SIDES)
        if text.strip(_RULES):
            parts[-1].append(text)
        else:
            parts.append([])
    texts = [" ".join(" ".join(part).split()).rstrip(":.") for part in parts if part]
    return ". ".join(text for text in texts if not text.startswith("Argument helptext"))
