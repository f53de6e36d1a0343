"""Every public name says what it is, and has types."""

import ast

import pytest

from tests.house.source import SOURCE, module_name, python_files, tree

Definition = ast.FunctionDef | ast.AsyncFunctionDef


def is_public(name: str) -> bool:
    return not name.startswith("_")


def public_definitions(body: list[ast.stmt], owner: str = ""):
    """Public classes, functions and methods, with their full names."""
    for node in body:
        if isinstance(node, ast.ClassDef | Definition) and is_public(node.name):
            yield f"{owner}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{owner}{node.name}.")


def is_overload(node: Definition) -> bool:
    return any(isinstance(decorator, ast.Name) and decorator.id == "overload" for decorator in node.decorator_list)


def missing_types(node: Definition) -> list[str]:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    names = [a.arg for a in arguments if a is not None and a.annotation is None and a.arg not in ("self", "cls")]
    return names + ([] if node.returns is not None else ["the result"])


def all_functions(module: ast.Module):
    return [node for node in ast.walk(module) if isinstance(node, Definition)]


@pytest.mark.parametrize("path", python_files(SOURCE), ids=module_name)
def test_docstrings(path) -> None:
    assert ast.get_docstring(tree(path)), f"{path}: say on top what the file is"
    bare = [
        name
        for name, node in public_definitions(tree(path).body)
        if not ast.get_docstring(node) and not (isinstance(node, Definition) and is_overload(node))
    ]
    assert not bare, f"{path}: no docstring: {', '.join(bare)}"


@pytest.mark.parametrize("path", python_files(SOURCE), ids=module_name)
def test_types(path) -> None:
    found = {node.name: missing for node in all_functions(tree(path)) if (missing := missing_types(node))}
    assert not found, f"{path}: no types: {found}"


SETTINGS = [p for p in python_files(SOURCE) if p.name in ("settings.py", "recipe.py", "stage.py")]
SETTINGS += [p for p in python_files(SOURCE / "methods") if p.name not in ("__init__.py", "base.py", "registry.py")]


@pytest.mark.parametrize("path", SETTINGS, ids=module_name)
def test_every_setting_has_a_text(path) -> None:
    bare = []
    for cls in (node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)):
        for field, text in zip(cls.body, [*cls.body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
                continue
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if not is_text:
                bare.append(f"{cls.name}.{ast.unparse(field.target)}")
    assert not bare, f"{path}: no text under {', '.join(bare)}"


def test_the_rules_can_fail() -> None:
    module = ast.parse("def f(x): ...\nclass A:\n    def g(self) -> int: ...")
    assert [name for name, _ in public_definitions(module.body)] == ["f", "A", "A.g"]
    assert missing_types(all_functions(module)[0]) == ["x", "the result"]
