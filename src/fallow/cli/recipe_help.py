"""The settings of one recipe as help text: every dotted key once, with the values it has now."""

import json
import re
import textwrap
from typing import Any

from fallow.config import Leaf, leaves
from fallow.run.recipe import Recipe

_STAGE = re.compile(r"stages\.(\d+)\.(.+)")


def describe(recipe: Recipe) -> str:
    """All settings of a recipe: their dotted keys, types, present values and texts."""
    settings = list(leaves(recipe))
    lines = [f"Settings of {recipe.name}:", ""]
    for leaf in settings:
        if not _STAGE.match(leaf.key):
            lines += _entry(leaf.key, leaf.type, leaf.text, _plain(leaf.value))
    names = ", ".join(f"{index} {stage.name}" for index, stage in enumerate(recipe.stages))
    lines += ["", *textwrap.wrap(f"Settings of each stage. STAGE is a number, a name, or all: {names}.", 100), ""]
    previous = ""
    for key, by_stage in _stage_settings(settings, recipe).items():
        leaf = next(iter(by_stage.values()))
        text = "" if leaf.text == previous else leaf.text  # keys of one mapping share a text; it is shown once
        lines += _entry(f"stages.STAGE.{key}", leaf.type, text, _values(by_stage, len(recipe.stages)))
        previous = leaf.text
    return "\n".join(lines)


def _stage_settings(settings: list[Leaf], recipe: Recipe) -> dict[str, dict[str, Leaf]]:
    """Key within a stage -> stage name -> setting; in the order of first appearance."""
    found: dict[str, dict[str, Leaf]] = {}
    for leaf in settings:
        match = _STAGE.match(leaf.key)
        if match and match[2] != "name":
            found.setdefault(match[2], {})[recipe.stages[int(match[1])].name] = leaf
    return found


def _values(by_stage: dict[str, Leaf], num_stages: int) -> str:
    """One value when all agree, else each value with the stages that have it."""
    groups: dict[str, list[str]] = {}
    for name, leaf in by_stage.items():
        groups.setdefault(_plain(leaf.value), []).append(name)
    if len(groups) == 1 and len(by_stage) == num_stages:
        return next(iter(groups))
    return "; ".join(f"{value} in {', '.join(names)}" for value, names in groups.items())


def _entry(key: str, kind: str, text: str, value: str) -> list[str]:
    indent = " " * 8
    words = f"{text} Now: {value}".strip()
    wrapped = textwrap.wrap(words, 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return [f"  --{key} ({kind})", *wrapped]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, default=str)
