"""Flags of a command from its `Args` dataclass, through tyro; a bad flag is a `UserError` like any other mistake."""

import contextlib
import inspect
import io
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import tyro

from fallow.errors import UserError

T = TypeVar("T")

_BOX = "\u2500\u2502\u256d\u256e\u256f\u2570"  # the characters that tyro draws boxes with


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

    >>> one_line("+ Bad +\nUnrecognized options: --x\n" + chr(0x2500) * 9 + "\nFor full helptext, run a --help")
    'Unrecognized options: --x. For full helptext, run a --help'
    """
    lines = [line.strip(_BOX + " ") for line in box.splitlines()[1:]]
    parts = "\n".join(lines).split("\n\n")  # a rule inside the box has become an empty line
    texts = [" ".join(part.split()).rstrip(":.") for part in parts if not part.startswith("Argument helptext")]
    return ". ".join(text for text in texts if text)
