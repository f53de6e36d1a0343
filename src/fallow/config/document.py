"""YAML text <-> plain mappings: numbers as people write them, line numbers kept, repeated keys refused.

A text is bounded before anything is made of it: in its length, its depth, and the values that it holds once every alias
is written out. What it may hold are keys and values, lists, text, numbers, true, false and null.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from fallow.errors import UserError, first_line

MOST_VALUES = 100_000
"""Keys and values of a text, every alias written out."""

_MOST_CHARACTERS = 10_000_000
_DEEPEST = 100
_DIGITS = 400
_SHOWN = 120
"""Characters of a text that a message repeats."""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is ten times faster where it was built


class Located(dict[str, Any]):
    """A mapping that remembers on which line of its file each key stood."""

    __slots__ = ("lines",)

    def __init__(self, *args: Any, lines: dict[str, int] | None = None) -> None:
        super().__init__(*args)
        self.lines: dict[str, int] = dict(lines or {})


class _Loader(_Base):  # type: ignore[misc]
    """YAML 1.2's scalars instead of 1.1's, which reads 1e-3 as text, `on` as true and 12:30 as 750."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}


_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
)
for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), [c.strip("\0") for c in _first])


def _int(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text):,} digits in line {node.start_mark.line + 1}")
    return int(text)


def _float(loader: Any, node: Any) -> float:
    text = loader.construct_scalar(node).replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _mapping(loader: Any, node: Any) -> Located:
    seen = set()
    for key, _ in node.value:
        if key.tag == _TAG + "merge":
            continue
        if key.value in seen:
            raise UserError(f"key {key.value} is given twice (line {key.start_mark.line + 1}). Remove one of them.")
        seen.add(key.value)
    loader.flatten_mapping(node)
    result = Located()
    for key, value in node.value:
        name = str(loader.construct_object(key, deep=True))
        result[name] = loader.construct_object(value, deep=True)
        result.lines[name] = key.start_mark.line + 1
    return result


_Loader.add_constructor(_TAG + "int", _int)
_Loader.add_constructor(_TAG + "float", _float)
_Loader.add_constructor(_TAG + "map", _mapping)


def parse(text: str, source: str = "the text") -> Any:
    """The value of a YAML text; mappings come back as `Located`.

    >>> parse("{rate: 1e-3, tokens: 2.5e9, switch: on}")
    {'rate': 0.001, 'tokens': 2500000000.0, 'switch': 'on'}
    """
    if len(text) > _MOST_CHARACTERS:
        raise UserError(f"{source} has {len(text):,} characters, but at most {_MOST_CHARACTERS:,} are read.")
    loader = _Loader(text)
    try:
        _check_depth(text, source)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, source, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{source} is not valid YAML{line}: {problem}.") from None
    except UserError:
        raise
    except (ValueError, RecursionError) as error:  # a tag that lies about its value; a number or a nesting without end
        raise UserError(f"{source} is not valid YAML: {first_line(error)}.") from None
    finally:
        loader.dispose()


def _check_depth(text: str, source: str) -> None:
    """Refuse a text of many levels before the parser meets it, which calls itself at each of them."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise _invalid(source, line, f"it is more than {_DEEPEST} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _count(node: yaml.Node, source: str, known: dict[int, int]) -> int:
    """The values of a node, those of its aliases each time they stand there; in time linear in the text.

    Args:
        node: of the graph that a text describes, in which an alias is an edge.
        source: for messages.
        known: values of the nodes counted so far by identity; 0 for those that are being counted.

    Raises:
        UserError: there are too many, a node holds itself, or its tag is none of ours.
    """
    line = node.start_mark.line + 1
    if id(node) in known:
        if not known[id(node)]:
            raise _invalid(source, line, "an anchor stands in itself. Remove the alias inside it")
        return known[id(node)]
    _check_tag(node, source, line)
    known[id(node)], total = 0, 1
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    for part in () if isinstance(node, yaml.ScalarNode) else parts:
        total += _count(part, source, known)
        if total > MOST_VALUES:
            raise _invalid(source, line, f"with aliases written out it holds more than {MOST_VALUES:,} values")
    known[id(node)] = total
    return total


def _check_tag(node: yaml.Node, source: str, line: int) -> None:
    """Refuse a tag that is none of ours, or that lies about its value; and keys that are no plain values."""
    kind = node.tag.removeprefix(_TAG)
    shown = node.tag.replace(_TAG, "!!")
    if isinstance(node, yaml.ScalarNode):
        patterns = [pattern for name, pattern, _ in _SCALARS if name == kind]
        if kind != "str" and not any(re.fullmatch(pattern, node.value) for pattern in patterns):
            raise _invalid(source, line, f'"{_short(node.value)}" has the tag {shown}. Remove the tag')
    elif kind != ("map" if isinstance(node, yaml.MappingNode) else "seq"):
        raise _invalid(source, line, f"the tag {shown} means nothing here. Remove it")
    if isinstance(node, yaml.MappingNode) and not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value):
        raise _invalid(source, line, "a key is no plain text")


def _invalid(source: str, line: int, why: str) -> UserError:
    return UserError(f"{source} is not valid YAML (line {line}): {why}.")


def is_number(text: str) -> bool:
    """Whether a text would be read as a number if it were not in quotes."""
    return any(re.fullmatch(pattern, text) for name, pattern, _ in _SCALARS if name in ("int", "float"))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def read(path: str | Path) -> Located:
    """The mapping in a YAML file.

    Raises:
        UserError: the file is missing, is not UTF-8, is not YAML, or does not hold a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"file {path} does not exist.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, but a YAML file is needed.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    value = parse(text, str(path))
    if not isinstance(value, Located):
        raise UserError(f"{path} must hold keys and values, but it holds {kind_of(value)}.")
    return value


def kind_of(value: object) -> str:
    """What a plain value is, in a user's words.

    >>> kind_of("a"), kind_of(3), kind_of(None)
    ('the text "a"', 'the number 3', 'nothing')
    """
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the text "{_short(value)}"'
        case list() | tuple():
            return "a list"
        case dict():
            return "keys and values"
    return f"a {type(value).__name__}"


class _Dumper(yaml.SafeDumper):
    """Block style outside, one line for lists of plain values; nothing shared, nothing sorted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    flow = all(not isinstance(item, list | dict) for item in data)
    return dumper.represent_sequence(_TAG + "seq", data, flow_style=flow)


_Dumper.add_representer(list, _represent_list)
for (
    _name,
    _pattern,
    _first,
) in _SCALARS:  # beside those of YAML 1.1: text that either version takes for a number is quoted
    _Dumper.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), [c.strip("\0") for c in _first])


def write(value: object) -> str:
    """Plain values as YAML text, keys in their order.

    >>> print(write({"b": [1, 2], "a": 1e-5}), end="")
    b: [1, 2]
    a: 1.0e-05
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True, default_flow_style=False)
