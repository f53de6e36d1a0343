"""JSON schema of a dataclass, for editors that complete and check YAML while one types."""

import dataclasses
import types
import typing
from typing import Any

from fallow.config.bounds import bounds_of
from fallow.config.choices import choices_of
from fallow.config.encode import to_dict
from fallow.config.fields import field_docs, hints_of

Schema = dict[str, Any]


def json_schema(cls: Any, title: str = "") -> Schema:
    """The schema (draft 2020-12) of the documents that `from_dict(cls, ...)` accepts."""
    definitions: dict[str, Schema] = {}
    schema = _object(cls, definitions)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title or cls.__name__}
    return head | schema | {"$defs": dict(sorted(definitions.items()))}


def _object(
    cls: Any, definitions: dict[str, Schema], tag: str = "", name: str = "", *, default: bool = False
) -> Schema:
    docs = field_docs(cls)
    properties: dict[str, Schema] = {tag: {"const": name}} if tag else {}
    required = [tag] if tag and not default else []
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key, annotation in hints_of(cls).items():
        entry = {"const": name} if key == tag else _schema(annotation, definitions)
        if docs.get(key):
            entry = entry | {"description": docs[key]}
        field = fields[key]
        if field.default is not dataclasses.MISSING:
            entry = entry | {"default": _plain(field.default)}
        elif field.default_factory is dataclasses.MISSING:
            required.append(key)
        properties[key] = entry
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": sorted(set(required), key=required.index)} if required else {})


def _schema(annotation: Any, definitions: dict[str, Schema]) -> Schema:
    if choices := choices_of(annotation):
        named = sorted(choices.options().items())
        default = choices.default
        return {
            "oneOf": [_reference(cls, definitions, choices.tag, name, default=name == default) for name, cls in named]
        }
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        bounds = bounds_of(annotation)
        return _schema(args[0], definitions) | ({"minimum": bounds.least, "maximum": bounds.most} if bounds else {})
    if dataclasses.is_dataclass(annotation):
        return _reference(annotation, definitions)
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin is tuple and args[-1] is Ellipsis:
        return {"type": "array", "items": _schema(args[0], definitions)}
    if origin is tuple:
        items = [_schema(arg, definitions) for arg in args]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(arg, definitions) for arg in args]}
    if origin is dict or annotation is dict:
        return {"type": "object", "additionalProperties": _schema(args[1], definitions) if args else True}
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return {"type": names[annotation]} if annotation in names else {}


def _reference(
    cls: Any, definitions: dict[str, Schema], tag: str = "", name: str = "", *, default: bool = False
) -> Schema:
    if cls.__name__ not in definitions:
        definitions[cls.__name__] = {}  # stands in while the class refers to itself
        definitions[cls.__name__] = _object(cls, definitions, tag, name, default=default)
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value
