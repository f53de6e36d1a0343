"""Plain mappings -> dataclasses, strictly: what does not fit is named by its dotted key, with what to write instead."""

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fallow.config.bounds import MOST, bounds_of
from fallow.config.choices import Choices, choices_of
from fallow.config.document import Located, is_number, kind_of, parse, read
from fallow.config.fields import field_docs, hints_of
from fallow.errors import UserError, nearest, plain_text, unknown

T = TypeVar("T")

_LONGEST = 10_000
"""Entries of a list or a mapping of settings."""

_LARGEST = sys.float_info.max


class Words(tuple[str, ...]):
    """Words typed after a flag. They are read by the type of the setting they meet: `2024` is text for a name."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a document a value stands."""

    path: str = ""
    line: int = 0

    def at(self, key: object, container: object = None) -> "Place":
        """The place of one entry."""
        path = f"{self.path}.{key}" if self.path else str(key)
        line = container.lines.get(str(key), 0) if isinstance(container, Located) else 0
        return Place(path, line)

    def __str__(self) -> str:
        name = self.path or "the document"
        return f"{name} (line {self.line})" if self.line else name


def load(cls: type[T], source: Mapping[str, Any] | str | Path) -> T:
    """A dataclass from a mapping, or from the YAML file at a path."""
    return from_dict(cls, source if isinstance(source, Mapping) else read(source))


def from_dict(cls: type[T], data: Mapping[str, Any], *, prefix: str = "") -> T:
    """A dataclass from plain values.

    Strict: an unknown key, a missing one and a wrong type are errors. Lenient where nothing can be lost: whole numbers
    for real ones, `2.5e9` for an integer, lists for tuples.

    Args:
        cls: a dataclass; its fields may be numbers, text, literals, tuples, dicts, dataclasses, tagged unions.
        data: keys and plain values, such as YAML or JSON give.
        prefix: dotted key of `data` in a larger document, for messages.

    Raises:
        UserError: names the dotted key, its line where known, and what to write.

    >>> @dataclass(frozen=True)
    ... class Adam:
    ...     lr: float
    ...     betas: tuple[float, float] = (0.9, 0.95)
    >>> from_dict(Adam, {"lr": 1, "betas": [0.9, 0.999]})
    Adam(lr=1.0, betas=(0.9, 0.999))
    """
    return typing.cast(T, _dataclass(cls, data, Place(prefix)))


def check(settings: Any) -> None:
    """Refuse what a document could not hold, in a dataclass that was made in Python: another type, or no such choice.

    For dataclasses of plain fields, from their `__post_init__`.

    Raises:
        UserError: names the field, its value, and what it must be.
    """
    for name, annotation in hints_of(type(settings)).items():
        decode(annotation, getattr(settings, name), Place(name))


def decode(annotation: Any, value: Any, place: Place) -> Any:
    """A value of the annotated type from a plain one."""
    if value is None and _may_be_absent(annotation):
        return None
    if choices := choices_of(annotation):
        return _choice(choices, value, place)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        decoded = decode(annotation.__origin__, value, place)
        if bounds := bounds_of(annotation):
            bounds.check(str(place), decoded)
        return decoded
    if origin is tuple:
        return _tuple(typing.get_args(annotation), value, place)
    if isinstance(value, Words):
        value = _from_words(annotation, value, place)
    if annotation is Any or annotation is object:
        return _plain(value)
    if dataclasses.is_dataclass(annotation):
        made = isinstance(annotation, type) and isinstance(value, annotation)  # in Python, and so checked
        return value if made else _dataclass(annotation, value, place)
    if origin is typing.Literal:
        return _literal(typing.get_args(annotation), value, place)
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(annotation), value, place)
    if origin is dict or annotation is dict:
        return _dict(typing.get_args(annotation), value, place)
    return _scalar(annotation, value, place)


def _may_be_absent(annotation: Any) -> bool:
    """Whether None is a value of the type: a union with None, marked or not."""
    bare = annotation.__origin__ if typing.get_origin(annotation) is typing.Annotated else annotation
    return typing.get_origin(bare) in (typing.Union, types.UnionType) and type(None) in typing.get_args(bare)


def _from_words(annotation: Any, words: Words, place: Place) -> Any:
    if not words and annotation is bool:
        return True
    if len(words) != 1:
        raise UserError(
            f"{place} takes one value, but {len(words)} were given: --{place.path} {' '.join(words)}".rstrip()
        )
    if annotation is str or annotation is Path:
        return words[0]
    if typing.get_origin(annotation) is typing.Literal and words[0] in typing.get_args(annotation):
        return words[0]
    return parse(words[0], f"--{place.path}")


def _choice(choices: Choices, value: Any, place: Place) -> Any:
    options = choices.options()
    if isinstance(value, Words):
        value = _from_words(Any, value, place)
    if not isinstance(value, Mapping):
        hint = f"{{{choices.tag}: {value if isinstance(value, str) else min(options)}}}"
        raise UserError(f"{place} is {kind_of(value)}, but it must be keys and values. Write {hint}.")
    if choices.tag not in value and not choices.default:
        raise UserError(f"{place.at(choices.tag)} is missing. Choose one of: {', '.join(sorted(options))}.")
    inner = place.at(choices.tag, value)
    name = decode(str, value.get(choices.tag, choices.default), inner)
    if name not in options:
        noun = place.path.rpartition(".")[2] if choices.tag == "name" else choices.tag
        raise UserError(f"{inner}: {unknown(noun, name, options)}")
    cls = options[name]
    return _dataclass(cls, value, place, ignore="" if choices.tag in hints_of(cls) else choices.tag)


def _dataclass(cls: Any, value: Any, place: Place, ignore: str = "") -> Any:
    if not isinstance(value, Mapping):
        names = ", ".join(hints_of(cls))
        raise UserError(f"{place} is {kind_of(value)}, but it must be keys and values. Its keys: {names}.")
    hints = hints_of(cls)
    for key in value:
        if key not in hints and (not ignore or key != ignore):
            raise _unknown_key(key, value, place, [*hints, ignore] if ignore else list(hints))
    arguments = {key: decode(hints[key], item, place.at(key, value)) for key, item in value.items() if key in hints}
    for field in dataclasses.fields(cls):
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.init and not optional and field.name not in arguments:
            raise UserError(f"{place.at(field.name)} is missing.{_first_sentence(cls, field.name)}")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise _with_path(str(error), place, value, hints) from None


def _unknown_key(key: str, value: Any, place: Place, known: list[str]) -> UserError:
    close = nearest(str(key), known)
    path = place.at(close).path
    hint = f"Did you mean {path}?" if close else f"Known keys{' there' if place.path else ''}: {', '.join(known)}."
    return UserError(f"unknown key {place.at(key, value)}. {hint}")


def _with_path(message: str, place: Place, value: Any, fields: Mapping[str, Any]) -> UserError:
    """A dataclass's own complaint begins with the name of a field; only here is it known where that field stands."""
    found = re.match(r"([A-Za-z_]\w*)(?:\.([A-Za-z_]\w*))?", message)
    first, second = (found[1], found[2] or "") if found else ("", "")
    noun = place.path.rpartition(".")[2]
    if first not in fields and second in fields:  # the complaint names itself too: "source.path is empty"
        message = message[len(first) + 1 :]
    elif first and first == noun:
        return UserError(f"{place}{message[len(first) :]}")
    elif first not in fields:
        return UserError(f"{place}: {message}" if place.path else message)
    found = re.match(r"\w+(\.\w+)*", message)
    keys = found.group() if found else ""
    here = place
    for key in keys.split("."):
        here = here.at(key, value)
        inside = value.get(key) if isinstance(value, Mapping) else None
        value = value[int(key)] if isinstance(value, list) and key.isdigit() and int(key) < len(value) else inside
    return UserError(f"{here}{message[len(keys) :]}")


def _first_sentence(cls: Any, name: str) -> str:
    text = field_docs(cls).get(name, "")
    return f" {text.split('. ')[0].rstrip('.')}." if text else ""


def _tuple(args: tuple[Any, ...], value: Any, place: Place) -> tuple[Any, ...]:
    if isinstance(value, Words):
        whole = len(value) == 1 and value[0].startswith(("[", "{"))
        value = parse(value[0], f"--{place.path}") if whole else [Words((word,)) for word in value]
    if not isinstance(value, list | tuple):
        hint = "" if value is None or isinstance(value, Mapping) else f" Write [{value}]."
        raise UserError(f"{place} is {kind_of(value)}, but it must be a list.{hint}")
    if len(value) > _LONGEST:
        raise UserError(f"{place} holds {len(value):,} values, but a list has at most {_LONGEST:,}.")
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise UserError(f"{place} holds {len(value)} values, but it must hold {len(args)}.")
    pairs = enumerate(zip(args, value, strict=True))
    return tuple(decode(arg, item, place.at(i)) for i, (arg, item) in pairs)


def _dict(args: tuple[Any, ...], value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{place} is {kind_of(value)}, but it must be keys and values.")
    if len(value) > _LONGEST:
        raise UserError(f"{place} holds {len(value):,} keys, but at most {_LONGEST:,} make sense.")
    item_type = args[1] if args else Any
    return {str(key): decode(item_type, item, place.at(key, value)) for key, item in value.items()}


def _literal(options: tuple[Any, ...], value: Any, place: Place) -> Any:
    for option in options:
        if value == option and isinstance(value, bool) == isinstance(option, bool):
            return option
    close = nearest(str(value), [str(option) for option in options])
    hint = f" Did you mean {close}?" if close else ""
    names = ", ".join(str(option) for option in options)
    raise UserError(f"{place} is {kind_of(value)}, but it must be one of: {names}.{hint}")


def _union(args: tuple[Any, ...], value: Any, place: Place) -> Any:
    if value is None and type(None) in args:
        return None
    rest = [arg for arg in args if arg is not type(None)]
    exact = [arg for arg in rest if isinstance(arg, type) and type(value) is arg]
    for arg in exact or rest:
        try:
            return decode(arg, value, place)
        except UserError as error:
            last = error
    if exact or not all(arg in _NOUNS or typing.get_origin(arg) is typing.Literal for arg in rest):
        raise last
    words = [_NOUNS.get(arg) or " or ".join(map(str, typing.get_args(arg))) for arg in rest]
    raise UserError(f"{place} is {kind_of(value)}, but it must be {' or '.join(words)}.")


_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


def _scalar(annotation: Any, value: Any, place: Place) -> Any:
    if annotation not in _NOUNS:
        raise TypeError(f"{place}: settings cannot hold {annotation}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is bool and isinstance(value, bool):
        return value
    if annotation is int and number and (isinstance(value, int) or value.is_integer()):
        if not -MOST <= value <= MOST:
            raise UserError(f"{place} is {kind_of(value)}, but the largest whole number is {MOST:,}.")
        return int(value)
    if annotation is float and number:
        if not -_LARGEST <= value <= _LARGEST:
            raise UserError(f"{place} is {value}, but it must be a finite number.")
        return float(value)
    if annotation in (str, Path) and isinstance(value, str):
        return annotation(plain_text(value, str(place)))
    hint = ""
    if annotation is str and (number or isinstance(value, bool)):
        hint = f' Put it in quotes: "{value}".'
    elif annotation in (int, float) and isinstance(value, str) and is_number(value):
        hint = " Write it without quotes."
    raise UserError(f"{place} is {kind_of(value)}, but it must be {_NOUNS[annotation]}.{hint}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, Words):
        return [_plain(item) for item in value]
    return value
