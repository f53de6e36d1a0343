"""Dataclasses -> plain mappings and canonical YAML: every value explicit, always in the same order."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fallow.config.choices import choices_of, tag_value
from fallow.config.document import write
from fallow.config.fields import hints_of


def to_dict(settings: Any) -> dict[str, Any]:
    """A dataclass as plain values; `from_dict` gives an equal one back.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Adam:
    ...     lr: float
    ...     betas: tuple[float, float] = (0.9, 0.95)
    >>> to_dict(Adam(lr=1e-3))
    {'lr': 0.001, 'betas': [0.9, 0.95]}
    """
    return _dataclass(settings)


def dump(settings: Any) -> str:
    """Canonical YAML of a dataclass: equal settings give equal text, whatever they were read from."""
    return write(to_dict(settings))


def _dataclass(settings: Any, tag: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {tag: tag_value(type(settings), tag)} if tag else {}
    for name, annotation in hints_of(type(settings)).items():
        value = getattr(settings, name)
        result[name] = _encode(annotation, value)
    return result


def _encode(annotation: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        item_type = _argument(annotation, 1)
        return {str(key): _encode(item_type, item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        item_type = _argument(annotation, 0)
        return [_encode(item_type, item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        choices = choices_of(annotation)
        return _dataclass(value, choices.tag if choices else "")
    if isinstance(value, Path):
        return str(value)
    return value


def _argument(annotation: Any, position: int) -> Any:
    args = getattr(annotation, "__args__", ())
    return args[position] if len(args) > position else Any
