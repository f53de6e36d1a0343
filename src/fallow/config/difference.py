"""Where two settings differ, by dotted keys."""

from collections.abc import Mapping
from typing import Any

ABSENT = "absent"


def flatten(document: Any, prefix: str = "") -> dict[str, Any]:
    """The plain values of a nested document by dotted key; empty containers count as values.

    >>> flatten({"a": {"b": [1, 2]}, "c": {}})
    {'a.b.0': 1, 'a.b.1': 2, 'c': {}}
    """
    if isinstance(document, Mapping):
        items = [(str(key), value) for key, value in document.items()]
    elif isinstance(document, list | tuple):
        items = [(str(index), value) for index, value in enumerate(document)]
    else:
        return {prefix: document}
    if not items and prefix:
        return {prefix: document}
    result: dict[str, Any] = {}
    for key, value in items:
        result |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return result


def difference(first: Any, second: Any) -> dict[str, tuple[Any, Any]]:
    """The dotted keys at which two documents differ, with both values; `"absent"` where one lacks the key.

    >>> difference({"lr": 1, "seed": 0}, {"lr": 2, "seed": 0})
    {'lr': (1, 2)}
    """
    left, right = flatten(first), flatten(second)
    keys = [*left, *(key for key in right if key not in left)]
    pairs = {key: (left.get(key, ABSENT), right.get(key, ABSENT)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1] or type(pair[0]) is not type(pair[1])}
