"""`fallow run`: a recipe from the command line."""

import sys
from collections.abc import Sequence

from fallow.cli.json_text import as_json
from fallow.config import Words, parse_flags, write
from fallow.environment import is_main
from fallow.errors import UserError

USAGE = """\
usage: fallow run RECIPE [--output FOLDER] [--only STAGE ...] [--restart] [--dry-run] [--json]
                         [--dotted.key VALUE ...]

Run the stages of a recipe: a YAML file of yours, or a shipped one (fallow recipes list). Finished stages are skipped,
and an interrupted one continues exactly where it stopped: the same command again is all it takes.

  --output FOLDER     where results go; by default runs/ and the recipe's name
  --restart           begin again in an empty folder (the old results are deleted)
  --only STAGE ...    these stages and the ones they begin with; the rest stays for later
  --dry-run           one step of each stage: does everything fit together?
  --print             print the recipe with every value explicit, and leave
  --json              the results as JSON on standard output, and nothing else there
  --dotted.key VALUE  change a setting; stages by number, by name, or all of them

fallow run RECIPE --help lists every setting of that recipe with its value.

Examples:
  fallow run spdf-demo
  fallow run recipe.yaml --stages.0.method.sparsity 0.75 --stages.all.optimizer.lr 1e-3
  fallow run recipe.yaml --output runs/second --seed 2
  fallow run spdf-gpt2-small --root data --only e2e-75
  torchrun --nproc-per-node 2 -m fallow run recipe.yaml"""

SWITCHES = ("--restart", "--dry-run", "--json", "--print")
HELP = ("-h", "--help")


def main(argv: Sequence[str], default_recipe: str = "") -> int:
    """Read the recipe with its changes, then run it, show its settings, or print it.

    Args:
        argv: what stands after `fallow run`.
        default_recipe: the recipe when `argv` names none.
    """
    switches = {switch: switch in argv for switch in SWITCHES}
    wants_help = any(flag in argv for flag in HELP)
    rest = [argument for argument in argv if argument not in (*SWITCHES, *HELP)]
    source = rest.pop(0) if rest and not rest[0].startswith("--") and not default_recipe else default_recipe
    if not source:
        if wants_help:
            print(USAGE)
            return 0
        raise UserError(
            "which recipe? Write fallow run RECIPE, with a .yaml file or one that fallow recipes list names."
        )
    overrides = parse_flags(rest)
    only = [word for key, words in overrides if key == "only" for word in words]
    if "only" in dict(overrides) and not only:
        raise UserError("--only names no stage. Write --only STAGE, or leave it out to run all of them.")
    overrides = [(key, words) for key, words in overrides if key != "only"]
    _check_switches(overrides)

    from fallow.run.recipe import load  # loads torch

    recipe = load(source, overrides)
    if wants_help:
        from fallow.cli.recipe_help import describe

        print(f"{USAGE}\n\n{describe(recipe)}")
        return 0
    if switches["--print"]:
        plain = recipe.document()
        print(as_json(plain) if switches["--json"] else write(plain), end="")
        return 0
    recipe.check_files()

    from fallow.run.orchestrate import run_recipe

    result = run_recipe(
        recipe, only=only, dry_run=switches["--dry-run"], restart=switches["--restart"], json=switches["--json"]
    )
    if switches["--json"] and isinstance(result, dict) and is_main():
        sys.stdout.write(as_json(result) + "\n")
    return 0


def _check_switches(overrides: Sequence[tuple[str, Words]]) -> None:
    for key, words in overrides:
        switch = "--" + key.replace("_", "-")
        if switch in SWITCHES:
            raise UserError(f"{switch} takes no value, but it was given {' '.join(words)}. Write {switch} alone.")
