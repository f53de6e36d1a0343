"""JSON that others wrote, strictly read: whatever is wrong with it is one kind of error with one short reason."""

import json
from collections.abc import Sequence
from typing import Any


def parse(text: str) -> Any:
    r"""The value that a JSON text holds.

    Raises:
        ValueError: not JSON, a key twice in one object, a number of thousands of digits, lists or objects in each other
            hundreds of levels deep, or half of a surrogate pair. Says which, and where, without the text.

    >>> parse('{"a": [1, 2]}')
    {'a': [1, 2]}
    >>> parse('{"a": 1, "a": 2}')
    Traceback (most recent call last):
        ...
    ValueError: has the key "a" twice in one object
    """
    value = parse_record(text)
    if "\\u" in text and ("\\ud" in text or "\\uD" in text):  # so begin escapes that are characters only in pairs
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a surrogate pair (\\ud...), which is no character") from None
    return value


def parse_record(text: str) -> Any:
    """`parse` for records that fallow wrote: a text of a model may end in half of a surrogate pair.

    Raises:
        ValueError: as `parse`.
    """
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"is not JSON: {error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise ValueError("has lists or objects in each other, hundreds of levels deep") from None
    except _TwiceError as error:
        raise ValueError(str(error)) from None
    except ValueError:
        raise ValueError("has a number of thousands of digits") from None


def kind(value: object) -> str:
    """What JSON calls a value.

    >>> kind(None), kind(True), kind(0.5), kind({})
    ('null', 'true or false', 'a number', 'an object')
    """
    names: Sequence[tuple[type | tuple[type, ...], str]] = (
        (bool, "true or false"),
        ((int, float), "a number"),
        (str, "a text"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((name for types, name in names if isinstance(value, types)), "null")


class _TwiceError(ValueError):
    """A key stands twice in one object; the last one would win, unseen."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _TwiceError(f'has the key "{name[:60]}" twice in one object')
    return found


_decoder = json.JSONDecoder(object_pairs_hook=_object)
