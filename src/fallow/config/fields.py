"""The fields of a dataclass: their types, and the texts written under them in the source."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import typing
from typing import Any


def hints_of(cls: Any) -> dict[str, Any]:
    """The types of a dataclass's fields, marks such as `Choices` included."""
    return _hints(cls)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def field_docs(cls: Any) -> dict[str, str]:
    """The text under each field of a dataclass, on one line each; bases included."""
    return _docs(cls)


@functools.cache
def _docs(cls: Any) -> dict[str, str]:
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue  # built in, or typed into a session
        body = typing.cast(ast.ClassDef, tree.body[0]).body
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match text:
                    case ast.Expr(value=ast.Constant(value=str(words))):
                        docs[field.target.id] = " ".join(words.split())
    return docs
