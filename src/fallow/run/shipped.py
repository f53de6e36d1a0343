"""The recipes that come with the package, as files; nothing here needs torch."""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from fallow.config import parse, read
from fallow.errors import UserError, nearest

SUFFIXES = (".yaml", ".yml")
SHARED = "x-"
"""Top-level keys that begin so are not settings: they hold what anchors share."""


def names() -> list[str]:
    """Names of the shipped recipes, the first to try first."""
    files = resources.files("fallow").joinpath("recipes").iterdir()
    found = [file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")]
    return sorted(found, key=lambda name: (not name.endswith("demo"), name))


def file_of(name: str) -> Traversable:
    """The file of a shipped recipe."""
    if name not in names():
        close = nearest(name, names())
        hint = f"Did you mean {close}?" if close else f"Shipped: {', '.join(names())}."
        raise UserError(f"there is no recipe {name}. {hint} A file of your own ends in .yaml.")
    return resources.files("fallow").joinpath("recipes", f"{name}.yaml")


def document_of(source: str | Path) -> dict[str, Any]:
    """The plain document of a recipe file or a shipped recipe, without the parts that only hold anchors."""
    path = Path(source)
    if path.suffix in SUFFIXES or path.is_file() or len(path.parts) > 1:
        document: dict[str, Any] = read(path)
    else:
        name = str(source)
        document = parse(file_of(name).read_text(encoding="utf-8"), name)
    for key in [key for key in document if key.startswith(SHARED)]:
        del document[key]
    return document
