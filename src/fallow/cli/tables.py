"""`fallow tables`: published tables, recomputed."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from fallow.cli.json_text import as_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Recompute a table of the papers from our own accounting, beside what was printed.

    Each figure with its relative error, and with what is known to be misprinted. Without a name: the list of tables.
    Computed from the shapes of the models; nothing is trained or downloaded.

    Examples:
      fallow tables
      fallow tables spdf-flops
      fallow tables shearing-reference-loss --json
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ""
    """Name of the table; nothing lists them."""

    json: bool = False
    """Print the cells as JSON, numbers unrounded."""


def run(args: Args) -> int:
    """List the tables, or print one."""
    from fallow.accounting.tables import TABLES, table

    if args.name:
        from fallow.accounting.tables.text import to_text

        found = table(args.name)
        print(as_json(found.to_dict()) if args.json else to_text(found))
    elif args.json:
        rows = [{"name": name, "description": text} for name, (_, text) in TABLES.items()]
        print(as_json(rows))
    else:
        width = max(map(len, TABLES))
        print("\n".join(f"{name:<{width}}  {text}" for name, (_, text) in TABLES.items()))
    return 0
