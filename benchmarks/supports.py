"""What a support costs in loss, at equal tokens and at equal time: a record, a table and a picture of supports-study.

    python benchmarks/supports.py --root DATA --output runs/supports --seeds 0 1 2 --jobs 2
    python benchmarks/supports.py ... --update docs/supports.md --picture docs/images/supports.svg

Steps of every arm are timed beside dense ones, in alternating pairs on one thread; at equal time an arm has as many
times the tokens as its steps are faster, or fewer where they are slower. What was timed and trained below --output is
taken as it is.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from apart import run_apart
from equal_time import of_equal_time, speed_ups
from record import processor, write_record
from seeds import update
from studies.study import spread, text

from fallow.config import dump
from fallow.run.recipe import Recipe, load
from fallow.run.stage import Stage

NAME = "supports-study"
BUDGETS = ("tokens", "time")
KINDS = {"uniform": "uniform", "n-m": "n:m", "vector": "vector 4 x 1", "block": "block 8 x 8"}


def main() -> None:
    """Time what has not been timed, train what has not been trained, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    parser.add_argument("--update", nargs="*", default=[], help="documents whose table is replaced")
    parser.add_argument("--picture", default="", help="where the picture goes")
    args = parser.parse_args()
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    recipe = load(NAME)
    faster = timed(recipe, args.pairs, output / "speed-ups.json")
    equal = output / "equal-time.yaml"
    equal.write_text(dump(of_equal_time(recipe, faster)), encoding="utf-8")
    recipes = {"tokens": NAME, "time": str(equal)}
    wanted = [(budget, seed) for budget in args.budgets for seed in args.seeds]
    with ThreadPoolExecutor(args.jobs) as pool:
        trained = list(
            pool.map(lambda one: run(args, recipes[one[0]], output / one[0] / f"seed-{one[1]}", one[1]), wanted)
        )
    rows = [row_of(stage, faster.get(stage.name, 1.0)) for stage in recipe.stages]
    for (budget, _), stages in zip(wanted, trained, strict=True):
        for row in rows:
            row.setdefault(f"equal_{budget}", []).append(stages[row["stage"]]["training"]["validation"]["loss"])
    path = write_record(NAME, {"seeds": args.seeds, "arms": rows})
    page = f"{table(rows, args.budgets)}\n\n{caption(recipe, args.seeds, path)}"
    print(page)
    for document in args.update:
        update(Path(document), NAME, page)
    if args.picture:
        draw(rows, args.budgets, Path(args.picture))


def timed(recipe: Recipe, pairs: int, path: Path) -> dict[str, float]:
    """How many times as fast as dense the steps are; measured once."""
    if not path.exists():
        torch.set_num_threads(1)
        path.write_text(json.dumps(speed_ups(recipe, pairs), indent=1))
    found: dict[str, float] = json.loads(path.read_text())
    return found


def run(args: argparse.Namespace, recipe: str, output: Path, seed: int) -> Any:
    """The records of all stages by name, of `fallow run` in a process of its own; the same call continues it."""
    own = ("--stages.all.seed", str(seed))  # a dumped recipe names its stages' seeds
    return run_apart(recipe, output, seed, *own, root=args.root, threads=1)["stages"]


def row_of(stage: Stage, faster: float) -> dict[str, Any]:
    """An arm, without its losses."""
    assert stage.optimizer is not None
    return {
        "stage": stage.name,
        "label": stage.label or stage.name,
        "sparsity": getattr(stage.method, "sparsity", 0.0),
        "rule": getattr(stage.method, "parametrization", ""),
        "rate": stage.optimizer.lr,
        "embedding_rate": stage.optimizer.lr * stage.optimizer.embedding_scale,
        "speed_up": round(faster, 3),
    }


def table(rows: Sequence[dict[str, Any]], budgets: Sequence[str]) -> str:
    """Markdown."""
    heads = [
        "arm",
        "rule",
        "rate",
        "a step, times as fast",
        *(f"valid. loss at equal {budget} (nats)" for budget in budgets),
    ]
    lines = ["| " + " | ".join(heads) + " |", "| --- | --- |" + " ---: |" * (len(heads) - 2)]
    for row in rows:
        cells = [row["label"], row["rule"] or "-", f"{row['rate']:g}", f"{row['speed_up']:.2f}"]
        cells += [text(over_seeds(row, budget)) for budget in budgets]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def over_seeds(row: dict[str, Any], budget: str) -> dict[str, float]:
    """Mean and standard deviation of an arm's losses."""
    return spread(row[f"equal_{budget}"])


def caption(recipe: Recipe, seeds: Sequence[int], record: Path) -> str:
    """What the table is, and how to get it again."""
    listed = " ".join(map(str, seeds))
    tokens = f"{recipe.stages[0].budget.tokens:,} tokens"
    return (
        f"{tokens}, or the time that the dense arm takes for them on one thread. Mean +- standard deviation of seeds "
        f"{list(seeds)}, on {processor()}. Again: `python benchmarks/supports.py --root DATA --seeds {listed} --output "
        f"runs/supports`; record: `benchmarks/records/{record.name}`."
    )


def draw(rows: Sequence[dict[str, Any]], budgets: Sequence[str], path: Path) -> None:
    """Loss over sparsity, a line for each kind of support, a panel for each budget."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = NAME  # the same bytes for the same numbers
    figure = Figure(figsize=(4.6 * len(budgets), 3.6), layout="constrained")
    panels = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
    dense = next(row for row in rows if not row["sparsity"])
    for axes, budget in zip(panels, budgets, strict=True):
        level, width = over_seeds(dense, budget).values()
        axes.axhspan(level - width, level + width, color="0.85")
        axes.axhline(level, color="0.4", linewidth=1, label="dense")
        for number, (name, label) in enumerate(KINDS.items()):
            arms = [row for row in rows if row["stage"].startswith(name + "-")]
            places = [
                100 * row["sparsity"] + 0.6 * (number - 1.5) for row in arms
            ]  # side by side, so that bars can be told
            means, bars = zip(*(over_seeds(row, budget).values() for row in arms), strict=True)
            axes.errorbar(places, means, yerr=bars, marker="o", markersize=4, capsize=2, linewidth=1.2, label=label)
        axes.set(title=f"equal {budget}", xlabel="sparsity (%)", xticks=[50, 75, 90])
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("validation loss (nats)")
    panels[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=130)


if __name__ == "__main__":
    main()
