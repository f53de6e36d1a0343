"""What a setting is: its dotted key, its type in a user's words, its value, its text."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fallow.config.choices import choices_of
from fallow.config.fields import field_docs, hints_of


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting at the end of a dotted key."""

    key: str
    """Dotted key."""
    type: str
    """Its type in a user's words."""
    value: Any
    """Its present value, plain."""
    text: str
    """What its source says about it."""


def type_name(annotation: Any) -> str:
    """A type in a user's words.

    >>> type_name(tuple[float, ...]), type_name(typing.Literal["a", "b"])
    ('numbers', 'a|b')
    """
    if choices := choices_of(annotation):
        return f"one of {', '.join(sorted(choices.options()))}"
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_name(args[0])
    if origin is typing.Literal:
        return "|".join(str(arg) for arg in args)
    if origin is tuple:
        plural = {"number": "numbers", "whole number": "whole numbers", "text": "texts"}
        return plural.get(type_name(args[0]), f"list of {type_name(args[0])}")
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(arg) for arg in args if arg is not type(None))
    if origin is dict or annotation is dict or dataclasses.is_dataclass(annotation):
        return "keys and values"
    names = {Any: "any value", bool: "true|false", int: "whole number", float: "number", str: "text"}
    return names.get(annotation, getattr(annotation, "__name__", "value"))


def leaves(settings: Any, prefix: str = "") -> Iterator[Leaf]:
    """Every setting of a dataclass in order, nested ones by their dotted keys."""
    docs = field_docs(type(settings))
    for name, annotation in hints_of(type(settings)).items():
        key = f"{prefix}.{name}" if prefix else name
        yield from _leaves(annotation, getattr(settings, name), key, docs.get(name, ""))


def _leaves(annotation: Any, value: Any, key: str, text: str) -> Iterator[Leaf]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        choices = choices_of(annotation)
        if choices and choices.tag not in hints_of(type(value)):
            yield Leaf(f"{key}.{choices.tag}", type_name(annotation), getattr(value, choices.tag), text)
        yield from leaves(value, key)
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        item_type = typing.get_args(annotation)[0]
        for index, item in enumerate(value):
            yield from _leaves(item_type, item, f"{key}.{index}", text)
    elif isinstance(value, dict) and value:
        args = typing.get_args(annotation)
        for name, item in value.items():
            yield from _leaves(args[1] if args else Any, item, f"{key}.{name}", text)
    else:
        yield Leaf(key, type_name(annotation), value, text)
