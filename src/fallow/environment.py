"""Variables of the environment that say who a process is: one reader, so that a wrong one is told in a line."""

import os
from dataclasses import dataclass

from fallow.errors import UserError

_UNSET = "Start several processes by torchrun, which sets it, or unset WORLD_SIZE."


@dataclass(frozen=True, slots=True)
class Place:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Its number on this machine."""


def place() -> Place:
    """What torchrun told this process; alone without it.

    Raises:
        UserError: a variable is no number, is missing beside the others, or does not fit them.
    """
    world = whole("WORLD_SIZE", 1, least=1)
    local = whole("LOCAL_RANK", 0)
    if world == 1:
        return Place(local=local)
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise UserError(f"WORLD_SIZE is {world}, but {name} is not set. {_UNSET}")
    whole("MASTER_PORT", 0, most=65_535)
    return Place(whole("RANK", 0, most=world - 1), world, local)


def whole(name: str, default: int, *, least: int = 0, most: int = 1_000_000) -> int:
    """A whole number from the environment; the default where it is not set, or empty.

    Raises:
        UserError: it is no such number.
    """
    text = os.environ.get(name, "")
    if not text:
        return default
    if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    raise UserError(
        f"the environment variable {name} is {text[:80]!a}, but it must be a whole number from {least} to {most:,}. "
        f"Set it so, or unset it."
    )


def is_main() -> bool:
    """Whether this process is the first one, or alone; where the environment is wrong, too."""
    return os.environ.get("WORLD_SIZE", "1") in ("", "1") or os.environ.get("RANK", "0") in ("", "0")
