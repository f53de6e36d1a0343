"""`fallow recipes`: the shipped recipes as text, and the schema that editors use."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fallow.cli.arguments import parse_args
from fallow.cli.json_text import as_json
from fallow.errors import UserError, unknown
from fallow.run import shipped

USAGE = """\
usage: fallow recipes list|show|copy|schema ...

The recipes that come with fallow. A recipe is one YAML file: copy it, change three lines, run it.

  list               names and what they are for
  show NAME          the file, with the source of each value
  copy NAME [FILE]   a copy to change; by default NAME.yaml here
  schema             JSON schema of a recipe, for editors that complete and check YAML

Every one takes --json and --help.

Examples:
  fallow recipes list
  fallow recipes copy spdf-demo my.yaml && fallow run my.yaml
  fallow recipes schema > recipe.schema.json"""


@dataclass(frozen=True, kw_only=True)
class ListArgs:
    """Names of the shipped recipes and what they are for.

    Examples:
      fallow recipes list
      fallow recipes list --json
    """

    json: bool = False
    """Print a JSON list of name and description."""


@dataclass(frozen=True, kw_only=True)
class ShowArgs:
    """Print a shipped recipe.

    Examples:
      fallow recipes show spdf-gpt2-small
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Name of the recipe."""

    json: bool = False
    """Print its values as JSON, anchors resolved, comments gone."""


@dataclass(frozen=True, kw_only=True)
class CopyArgs:
    """Copy a shipped recipe to a file of your own. An existing file is not overwritten.

    Examples:
      fallow recipes copy spdf-demo
      fallow recipes copy spdf-demo experiments/mine.yaml
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Name of the recipe."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = ""
    """Where to. By default NAME.yaml in this folder."""

    json: bool = False
    """Print the path as JSON."""


@dataclass(frozen=True, kw_only=True)
class SchemaArgs:
    """Print the JSON schema of recipes.

    Examples:
      fallow recipes schema > recipe.schema.json
    """

    json: bool = False
    """The schema is JSON in any case."""


def main(argv: Sequence[str]) -> int:
    """Find the action and do it."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if argv[0] not in ACTIONS:
        raise unknown("action", argv[0], ACTIONS)
    args, action = ACTIONS[argv[0]]
    action(parse_args(args, f"fallow recipes {argv[0]}", argv[1:]))
    return 0


def list_recipes(args: ListArgs) -> None:
    """Print names and descriptions."""
    rows = [{"name": name, "description": shipped.document_of(name)["description"]} for name in shipped.names()]
    if args.json:
        print(as_json(rows))
    else:
        width = max(len(row["name"]) for row in rows)
        print("\n".join(f"{row['name']:<{width}}  {row['description']}" for row in rows))


def show(args: ShowArgs) -> None:
    """Print one recipe."""
    if args.json:
        print(as_json(shipped.document_of(args.name)))
    else:
        sys.stdout.write(shipped.file_of(args.name).read_text(encoding="utf-8"))


def copy(args: CopyArgs) -> None:
    """Copy one recipe."""
    text = shipped.file_of(args.name).read_text(encoding="utf-8")
    path = Path(args.file or f"{args.name}.yaml")
    if path.is_dir():
        path = path / f"{args.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} exists already and is not overwritten. Give another file name.") from None
    print(as_json({"path": str(path)}) if args.json else f"Wrote {path}. Run it with: fallow run {path}")


def schema(args: SchemaArgs) -> None:
    """Print the JSON schema."""
    from fallow.config import json_schema  # these two load torch
    from fallow.run.recipe import Recipe

    print(as_json(json_schema(Recipe, "A recipe of fallow")))


ACTIONS: dict[str, tuple[Any, Callable[[Any], None]]] = {
    "list": (ListArgs, list_recipes),
    "show": (ShowArgs, show),
    "copy": (CopyArgs, copy),
    "schema": (SchemaArgs, schema),
}
