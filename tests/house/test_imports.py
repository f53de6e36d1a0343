"""Dependencies point one way: cli -> run -> train, data, ... -> conversion -> methods -> linear -> supports."""

import pytest

from tests.house.source import SOURCE, imports, module_name, python_files

LAYERS = [
    {"cli"},
    {"run"},
    {"train", "data", "evaluate", "report", "accounting", "analysis", "hf"},
    {"folder"},
    {"pruning", "skeleton", "plausible"},
    {"conversion", "counting"},
    {"methods"},
    {"shearing", "tuners"},
    {"linear"},
    {"supports"},
    {"metrics"},  # knows errors alone, so that it could be a package of its own
]
"""From top to bottom; a part may import from its own layer's own part and from everything below."""

LEAVES = {
    "causal",
    "clock",
    "config",
    "environment",
    "errors",
    "files",
    "integrity",
    "json_text",
    "lock",
    "plausible",
    "random",
    "shortages",
    "stock",
    "unpack",
}
"""Any part may import these; they import only one another."""

ALSO = {
    ("evaluate", "data"),  # batches and pairs
    ("report", "accounting"),
    ("hf", "accounting"),
    ("conversion", "folder"),  # `save_pretrained` of a converted model; imported when it is called
}
"""Arrows beside the order."""

STRANGERS = {("data", "train"), ("train", "data"), ("train", "evaluate")}
"""They meet in `run`."""


def part_of(module: str) -> str:
    names = module.split(".")
    return names[1] if len(names) > 1 else ""


def allowed(importer: str, imported: str) -> bool:
    if importer == imported or imported in LEAVES or (importer, imported) in ALSO:
        return True
    if importer in LEAVES:
        return False
    rank = {part: level for level, parts in enumerate(LAYERS) for part in parts}
    return rank[importer] < rank[imported]


def test_every_part_has_a_place() -> None:
    parts = {part_of(module_name(path)) for path in python_files(SOURCE)} - {"", "__main__"}
    known = LEAVES.union(*LAYERS)
    assert parts <= known, f"give {parts - known} a place in LAYERS"


@pytest.mark.parametrize("path", python_files(SOURCE), ids=module_name)
def test_no_arrow_points_up(path) -> None:
    importer = part_of(module_name(path))
    if importer in ("", "__main__"):
        pytest.skip("the front door")
    parts = {part.name.removesuffix(".py") for part in SOURCE.iterdir()}
    for name, line in imports(path):
        imported = part_of(name)
        if imported not in parts:
            continue  # a name of the package itself, such as fallow.__version__ or fallow.convert
        assert allowed(importer, imported), f"{path}:{line}: {importer} may not import {imported}"


def test_the_rule_can_fail() -> None:
    assert not allowed("supports", "linear")
    assert not allowed("config", "run")
    assert not any(allowed(*pair) for pair in STRANGERS)
