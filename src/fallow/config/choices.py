"""Tagged unions: which of several dataclasses a mapping means is said by one of its keys, `name` or `kind`."""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TAGS = ("kind", "name")


@dataclass(frozen=True, slots=True)
class Choices:
    """Marks a field whose class is chosen in a registry: `Annotated[Base, Choices("name", registry)]`.

    The registry is asked when a recipe is read, so that whatever registers itself by then can be chosen.
    """

    tag: str
    """The key that names the choice."""

    options: Callable[[], Mapping[str, type[Any]]]
    """Gives the dataclasses by name."""

    default: str = ""
    """The choice that is meant when the key is left out; empty: it must be written."""


def choices_of(annotation: Any) -> Choices | None:
    """The choices that a field's type offers, or None when it is not a tagged union.

    Either the type is marked with `Choices`, or it is a union of dataclasses that each carry the same tag: a field
    `kind: Literal["text"] = "text"`, or a class variable.
    """
    if typing.get_origin(annotation) is typing.Annotated:
        return next((mark for mark in annotation.__metadata__ if isinstance(mark, Choices)), None)
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return None
    members = [arg for arg in typing.get_args(annotation) if dataclasses.is_dataclass(arg)]
    if len(members) < 2:
        return None
    for tag in TAGS:
        names = [tag_value(member, tag) for member in members]
        if all(names):
            return Choices(tag, functools.partial(dict[str, Any], tuple(zip(names, members, strict=True))))
    raise TypeError(f"the members of {annotation} carry no common tag ({' or '.join(TAGS)})")


def tag_value(cls: Any, tag: str) -> str:
    """The name under which a dataclass is chosen, or an empty string when it carries no such tag."""
    for field in dataclasses.fields(cls):
        if field.name == tag:
            return field.default if isinstance(field.default, str) else ""
    value = getattr(cls, tag, "")
    return value if isinstance(value, str) else ""
