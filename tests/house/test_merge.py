"""`merge` returns the model to use from then on: nobody may throw its value away."""

import ast
import re
from pathlib import Path

import pytest

from tests.house.source import ROOT

FILES = [p for folder in ("src", "examples", "benchmarks", "tests") for p in sorted((ROOT / folder).rglob("*.py"))]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def ignored(code: str) -> list[int]:
    """Lines of statements that are nothing but a call of our `merge`; a layer of PEFT has one that returns nothing."""
    calls = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Expr)]
    found = [call for call in calls if isinstance(call, ast.Call)]
    return [
        c.lineno
        for c in found
        if "merge" in (getattr(c.func, "id", ""), getattr(c.func, "attr", "")) and (c.args or c.keywords)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_uses_what_merge_returns(path: Path) -> None:
    assert not ignored(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_use_what_merge_returns(path: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        assert not ignored(block)


def test_an_ignored_value_is_seen() -> None:
    assert ignored("import fallow\nfallow.merge(model)\nx = merge(y)\n") == [2]
