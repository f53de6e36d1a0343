"""`fallow report`: one page for a run or several."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fallow.cli.json_text import as_json

if TYPE_CHECKING:
    from pathlib import Path

    from fallow.report.runs import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Put a run or several on one page: tables, and loss against tokens, FLOPs and bytes.

    Runs of one recipe with different seeds become one, with mean and standard deviation; different recipes stand side
    by side. Stages that are not finished are shown as far as they are. The page is one HTML file that needs nothing
    else. A run is its folder, or a results.json out of it.

    Examples:
      fallow report runs/spdf-demo
      fallow report runs/seed-1 runs/seed-2 runs/seed-3 --output seeds.html
      fallow report runs/dense runs/sparse --json
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")] = ()
    """Folders of runs."""

    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """The page. By default report.html in the current folder; with --json none unless it is named."""

    json: bool = False
    """Print table, curves and costs as JSON, and nothing else, on standard output."""


def run(args: Args) -> int:
    """Read, group, write, print."""
    from pathlib import Path

    from fallow.errors import UserError

    if not args.runs:
        raise UserError("which run? Write fallow report RUN, with the folder of a run, such as runs/spdf-demo")
    paths = [Path(name) for name in args.runs]
    for number, path in enumerate(paths):
        if any(path.resolve() == other.resolve() for other in paths[:number]):
            raise UserError(f"{path} is named twice. A run counts once")
    output = Path(args.output or "report.html") if args.output or not args.json else None
    if output is not None and output.is_dir():
        raise UserError(
            f"--output is {output}, which is a folder, but the page is a file. Write {output / 'report.html'}"
        )
    found = [_read(path) for path in paths]

    from fallow.files import write_text
    from fallow.report.overview import overview
    from fallow.report.pages import runs_page

    if output is not None:
        write_text(output, runs_page(found))
    results = overview(found)
    if args.json:
        print(as_json(results))
        return 0

    from fallow.report.tables import show_table

    show_table(results)
    for note in results["notes"]:
        print(f"- {note}")
    print(f"\nReport:  {output.resolve() if output is not None else ''}")
    return 0


def _read(path: "Path") -> "Run":
    """A run; where its `results.json` is absent or older than its stages, from the stages."""
    from fallow.errors import UserError
    from fallow.report.runs import read_run

    if not (path / "recipe.yaml").is_file() or (path / "stage.json").is_file():
        if path.is_dir() and not (path / "results.json").is_file():
            inside = path.parent if (path.parent / "recipe.yaml").is_file() else None
            hint = f"Did you mean {inside}?" if inside else "The folder of a run holds a recipe.yaml"
            raise UserError(f"{path} is no run: it holds neither results.json nor recipe.yaml. {hint}")
        return read_run(path)
    stored: dict[str, Any] | None = None
    if (path / "results.json").is_file():
        from fallow.report.runs import read_results

        stored = read_results(path / "results.json")

    stages = (stored or {}).get("stages")
    if stored is None or (
        isinstance(stages, dict) and {p.parent.name for p in path.glob("*/stage.json")} - stages.keys()
    ):
        from fallow.run.reread import reread  # loads torch

        stored = reread(path)
    return read_run(path, stored)
