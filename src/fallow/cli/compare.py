"""`fallow compare`: what changed between two models."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fallow.cli.json_text import as_json

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Compare the weights of two model folders, matrix by matrix and layer by layer.

    Cosine distances as in SPDF's figures 3 and 4, norms, relative change, overlap of supports, and for some layers the
    singular values and what low rank leaves over, as in SLTrain's figures 2 and 10. Prints a table; with --output also
    writes comparison.json and comparison.html. Models: gpt2, llama, mistral, qwen2, qwen3, opt, gpt_neox,
    bert, roberta; plain Hugging Face folders with safetensors, or folders of fallow.save.

    Examples:
      fallow compare runs/spdf-demo/pretrain-75/model runs/spdf-demo/tune-75/model
      fallow compare before after --output comparison --rank 128
      fallow compare before after --spectra none --json
    """

    a: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the first model, the one before."""

    b: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the second model, the one after."""

    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Folder for comparison.json and comparison.html. By default only the table is printed."""

    rank: int = 0
    """Rank whose best approximation is taken away before residuals are measured. 0: a quarter of the smallest side."""

    spectra: Literal["some", "all", "none"] = "some"
    """Singular values of the first, middle and last layer, of all layers, or not at all. They take most of the time."""

    json: bool = False
    """Print the comparison as JSON, and nothing else, on standard output."""


def run(args: Args) -> int:
    """Check, compare, print, write."""
    from pathlib import Path

    from fallow.cli.models import check_folder
    from fallow.errors import UserError

    for folder in (args.a, args.b):
        check_folder(folder)
    output = Path(args.output) if args.output else None
    if output is not None and output.exists() and not output.is_dir():
        raise UserError(f"--output is {output}, which is a file, but the results need a folder")
    if args.rank < 0:
        raise UserError(f"rank is {args.rank}, but it must be at least 1 (or 0 for a quarter of the smallest side)")
    if args.rank and args.spectra == "none":
        raise UserError("--rank has no effect with --spectra none. Remove one of them")

    from fallow.analysis.compare import compare

    progress = _progress if sys.stderr.isatty() else None
    found = compare(args.a, args.b, rank=args.rank, spectra=args.spectra, progress=progress)
    if progress is not None:
        progress("")
    written = _write(found, output) if output is not None else []
    if args.json:
        print(as_json(found))
        return 0

    from fallow.report.tables import show_table

    show_table(found)
    for note in found["notes"]:
        print(f"- {note}")
    for path in written:
        print(path)
    return 0


def _write(found: dict[str, Any], output: "Path") -> "list[Path]":
    from fallow.files import write_json, write_text
    from fallow.report.comparison import comparison_page

    output.mkdir(parents=True, exist_ok=True)
    written = [output / "comparison.json", output / "comparison.html"]
    write_json(written[0], found)
    write_text(written[1], comparison_page(found))
    return written


def _progress(text: str) -> None:
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
