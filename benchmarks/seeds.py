"""A recipe with several seeds: mean and spread of its table, as a record and as a table in a document.

    python benchmarks/seeds.py spdf-demo --seeds 0 --output runs/demo --update README.md
    python benchmarks/seeds.py spdf-e2e --root DATA --seeds 0 1 2 --output runs/e2e --update README.md docs/spdf.md

Finished runs below --output are taken as they are, an interrupted one is continued. A document is updated between the
lines <!-- results:NAME --> and <!-- /results:NAME -->.
"""

import argparse
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apart import run_apart
from record import processor, write_record

from fallow.report.tables import Column, cell_text

COST = (
    "sparsity", "pruned", "trainable", "linear_flops_left", "nonzero", "stored", "reduction", "ceiling", "bytes"
)  # fmt: skip
TEXTS = ("bleu", "nist", "meteor", "rouge_l", "cider", "ter", "chrf", "win_rate")
LABELS = ("matthews", "f1", "accuracy", "pearson", "spearman")
QUALITY = ("valid_loss", "valid_perplexity", "perplexity", *TEXTS, *LABELS)
SHOWN = ("arm", *COST, *QUALITY)
"""Columns of a document; the speed stays in the record, it belongs to one machine."""


def main() -> None:
    """Run, summarise, record, update."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output", required=True)
    parser.add_argument("--root", default="")
    parser.add_argument("--update", nargs="*", default=[], help="documents whose table is replaced")
    args = parser.parse_args()
    runs = [run(args, seed) for seed in args.seeds]
    columns = [Column.of(column) for column in runs[0]["columns"]]
    rows = [summary(columns, [r["rows"][i] for r in runs]) for i in range(len(runs[0]["rows"]))]
    minutes = [round(r["minutes"], 1) for r in runs]
    results = {"seeds": args.seeds, "minutes": minutes, "columns": runs[0]["columns"], "rows": rows}
    path = write_record(Path(args.recipe).stem, results, notes="; ".join(runs[0]["notes"]))
    text = table(columns, rows)
    print(text, path, sep="\n\n")
    for document in args.update:
        update(Path(document), args.recipe, f"{text}\n\n{caption(args, path)}")


def run(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The results of one seed."""
    found = run_apart(args.recipe, Path(args.output) / f"seed-{seed}", seed, root=args.root)
    found["minutes"] = sum(stage["training"]["seconds"] for stage in found["stages"].values()) / 60
    return found


def summary(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row over all seeds: mean and standard deviation of what differs."""
    found: dict[str, Any] = {}
    for column in columns:
        values = [row.get(column.key) for row in rows]
        if len(set(values)) == 1 or not all(isinstance(value, int | float) for value in values):
            found[column.key] = values[0]
        else:
            found[column.key] = {"mean": statistics.fmean(values), "spread": statistics.stdev(values)}
    return found


def table(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table."""
    shown = [column for column in columns if column.key in SHOWN]
    heads = [f"{c.title} ({c.unit})" if c.unit else c.title for c in shown]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(shown) - 1)]
    for row in rows:
        cells = [cell_text(column, row.get(column.key)).replace("|", "\\|") for column in shown]  # a label may say |dW|
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def caption(args: argparse.Namespace, record: Path) -> str:
    """What the table is, and how to get it again."""
    seeds = f"seed {args.seeds[0]}" if len(args.seeds) == 1 else f"mean +- standard deviation of seeds {args.seeds}"
    root = " --root DATA" if args.root else ""
    listed = " ".join(map(str, args.seeds))
    return (
        f"{seeds.capitalize()}, on {processor()}. "
        f"Again: `python benchmarks/seeds.py {args.recipe}{root} --seeds {listed} --output runs/{args.recipe}`; "
        f"record: `benchmarks/records/{record.name}`."
    )


def update(path: Path, name: str, text: str) -> None:
    """Replace what stands between the marks."""
    before = path.read_text()
    pattern = rf"(<!-- results:{name} -->\n).*?(<!-- /results:{name} -->)"
    after, count = re.subn(pattern, lambda match: f"{match[1]}\n{text}\n\n{match[2]}", before, flags=re.DOTALL)
    if not count:
        raise SystemExit(f"{path} has no place <!-- results:{name} -->")
    path.write_text(after)


if __name__ == "__main__":
    main()
