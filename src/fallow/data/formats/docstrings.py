"""Pairs every Python has with it: functions of the standard library and the first paragraph of their docstrings."""

import ast
import hashlib
import json
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

from fallow.data.documents import Document, place_of
from fallow.data.embedded import read_stdlib
from fallow.data.formats.pair import Pair, Role
from fallow.files import write_text

_VERSION = 3
TEST_SHARE, VALID_SHARE = 0.05, 0.05
"""Modules placed below 0.05 are tested on, below 0.10 validated on. Text of embedded:stdlib with a `valid_share` of at
least 0.1 holds out all of them, so that no docstring is met in pre-training that is asked for later."""

_WORDS, _TARGET, _SOURCE = range(3, 41), 300, 2000


def read_docstrings(role: Role, cache: Path) -> list[Pair]:
    """(Source of a function without its docstring, first paragraph of the docstring), split by module.

    Left out: functions without a body of their own, paragraphs under 3 or over 40 words or over 300 characters, sources
    over 2,000 characters, and every repeated source or repeated pair. Made in seconds, then kept as JSONL in `cache`,
    after a line with its checksum.
    """
    tag = hashlib.sha256(f"{_VERSION} {sys.version}".encode()).hexdigest()[:8]
    file = cache / f"docstrings-{tag}.jsonl"
    body = _kept(file)
    if not body:
        rows = [json.dumps([module, pair.context, pair.target]) for module, pair in _extract()]
        body = "\n".join(rows) + "\n"
        write_text(file, json.dumps({"sha256": _digest(body)}) + "\n" + body)
    parsed = map(json.loads, body.splitlines())
    return [Pair(context, target) for module, context, target in parsed if role_of(module) == role]


def _kept(file: Path) -> str:
    """The lines of the file that was kept; empty where there is none or it is damaged, since it can be made again."""
    try:
        head, _, body = file.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return ""
    return body if head == json.dumps({"sha256": _digest(body)}) else ""


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def role_of(module: str) -> Role:
    """Which side of the split a module is on; decided by its name alone."""
    place = place_of(module)
    if place < TEST_SHARE:
        return "test"
    return "valid" if place < TEST_SHARE + VALID_SHARE else "train"


def _extract() -> Iterator[tuple[str, Pair]]:
    seen: set[str] = set()
    for document in read_stdlib():
        for pair in _pairs(document):
            plain = "".join(pair.context.split())
            if plain not in seen:
                seen.add(plain)
                yield document.name, pair


def _pairs(document: Document) -> Iterator[Pair]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old modules hold invalid escapes
            tree = ast.parse(document.text)
    except (SyntaxError, ValueError):
        return
    lines = [line + "\n" for line in document.text.split("\n")]  # as Python counts: a form feed ends no line
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring and len(node.body) > 1:
                source = _without_docstring(node, lines)
                target = " ".join(docstring.split("\n\n")[0].split())
                fits = len(target.split()) in _WORDS and len(target) <= _TARGET and len(source) <= _SOURCE
                if fits and not target.startswith(">>>"):
                    yield Pair(source, target)


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    first = node.body[0]
    kept = lines[node.lineno - 1 : first.lineno - 1] + lines[first.end_lineno or first.lineno : node.end_lineno]
    return textwrap.dedent("".join(kept)).strip()
