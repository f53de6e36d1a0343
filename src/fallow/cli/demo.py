"""`fallow demo`: the shipped recipe `spdf-demo`, with the same flags as `fallow run`."""

from collections.abc import Sequence

from fallow.cli import run

RECIPE = "spdf-demo"

USAGE = """\
usage: fallow demo [--output FOLDER] [--only STAGE ...] [--restart] [--dry-run] [--json] [--dotted.key VALUE ...]

Pre-train a small GPT-2 dense, 50% and 75% sparse on the text of this Python installation, fine-tune each one, and
compare: a table, and one HTML file with curves and samples. A few minutes on two cores; needs no network and no data.

The same as fallow run spdf-demo, and takes the same flags; fallow run spdf-demo --help lists every setting.

Examples:
  fallow demo
  fallow demo --output runs/second --seed 1
  fallow demo --only tune-75
  fallow demo --dry-run"""


def main(argv: Sequence[str]) -> int:
    """Run the demo's recipe."""
    if any(flag in argv for flag in run.HELP):
        print(USAGE)
        return 0
    return run.main(argv, default_recipe=RECIPE)
