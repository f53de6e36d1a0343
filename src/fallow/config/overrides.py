"""Dotted keys from the command line into a document: `--stages.0.optimizer.lr 1e-3`, or by a stage's name, or `all`.

Not tyro, which the flags of the commands use: it puts tagged unions behind subcommands and cannot reach into a tuple of
dataclasses by name, and a recipe is both. The words are applied to the document before it is read, so that they
are checked exactly as if they stood in the file.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from fallow.config.decode import Words
from fallow.config.document import Located, kind_of
from fallow.errors import UserError, nearest

ALL = "all"
Override = tuple[str, Any]
"""A dotted key, and `Words` or a plain value."""


def parse_flags(arguments: Sequence[str]) -> list[tuple[str, Words]]:
    """The dotted flags of a command line, in order.

    >>> parse_flags(["--seed", "3", "--targets", "c_attn", "c_fc", "--batch.micro=2"])
    [('seed', ('3',)), ('targets', ('c_attn', 'c_fc')), ('batch.micro', ('2',))]
    """
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--"):
            key, equals, value = argument[2:].partition("=")
            if not key:
                raise UserError(f'"{argument}" is not a setting. Write --key value, such as --seed 1.')
            found.append((key, [value] if equals else []))
        elif not found:
            raise UserError(f'"{argument}" is not expected here. Settings are written --key value, such as --seed 1.')
        else:
            found[-1][1].append(argument)
    return [(key, Words(words)) for key, words in found]


def apply_overrides(document: Any, overrides: Iterable[Override]) -> Any:
    """A copy of a plain document with the values at dotted keys replaced.

    A list is entered by a number, by the `name` of one of its entries, or by `all`. Keys that do not exist yet are
    made; whether they may exist is checked when the document is read.

    >>> apply_overrides({"stages": [{"name": "tune"}]}, [("stages.tune.seed", 3)])
    {'stages': [{'name': 'tune', 'seed': 3}]}
    """
    result = _copy(document)  # anchors share their content; a change to one place must not reach the others
    for key, value in overrides:
        _set(result, key.split("."), value, "")
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return Located({k: _copy(v) for k, v in value.items()}, lines=getattr(value, "lines", {}))
    if isinstance(value, list | tuple) and not isinstance(value, Words):
        return [_copy(item) for item in value]
    return value


def _set(container: Any, keys: list[str], value: Any, path: str) -> None:
    key, rest = keys[0], keys[1:]
    here = f"{path}.{key}" if path else key
    if isinstance(container, list):
        for index in _indices(container, key, path):
            if rest:
                _set(container[index], rest, value, f"{path}.{index}")
            else:
                container[index] = value
        return
    if not isinstance(container, dict):
        raise UserError(f"{path} is {kind_of(container)} and has no keys, so --{here} means nothing.")
    if not rest:
        container[key] = value
        if isinstance(container, Located):
            container.lines.pop(key, None)
        return
    if container.get(key) is None:
        container[key] = Located()
    _set(container[key], rest, value, here)


def _indices(entries: list[Any], key: str, path: str) -> Iterable[int]:
    if key == ALL:
        return range(len(entries))
    if key.isdigit():
        if int(key) >= len(entries):
            raise UserError(f"{path}.{key} does not exist: {path} has {len(entries)} entries, numbered from 0.")
        return [int(key)]
    names = [entry.get("name", "") if isinstance(entry, dict) else "" for entry in entries]
    if key in names:
        return [names.index(key)]
    close = nearest(key, names)
    hint = f"Did you mean {close}?" if close else f"It has: {', '.join(name for name in names if name)}."
    raise UserError(f"{path} has no {key}. {hint}")
