"""The studies of the SLTrain paper at a small scale: a record each, and the tables of docs/sltrain.md.

    python benchmarks/sltrain.py grid --root DATA --output runs/sltrain --update docs/sltrain.md
    python benchmarks/sltrain.py all --root DATA --seeds 0 1 2 --output runs/sltrain --update docs/sltrain.md
    python benchmarks/sltrain.py rank inference

DATA holds pretrain/wikipedia and pretrain/books as the recipe sltrain-study expects them; rank and inference need none.
The others look at the runs of grid. Finished runs are taken as they are, interrupted ones are continued.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from record import processor, write_record
from seeds import update
from studies import grid, inference, rank, residual, spectra, supports
from studies.study import Outcome, Setting

ALONE = ("rank", "inference")
ORDER = ("grid", "supports", "residual", "spectra", *ALONE)


def main() -> None:
    """Run what was asked for, in an order that works."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", choices=[*ORDER, "all"])
    parser.add_argument("--root", default="", help="folder of the data")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--output", default="runs/sltrain")
    parser.add_argument("--jobs", type=int, default=1, help="seeds of grid at a time")
    parser.add_argument("--update", nargs="*", default=[], help="documents whose tables are replaced")
    args = parser.parse_args()
    chosen = ORDER if "all" in args.studies else [name for name in ORDER if name in args.studies]
    if not args.root and set(chosen) - set(ALONE):
        parser.error("--root is missing: the folder that holds pretrain/wikipedia and pretrain/books")
    setting = Setting(args.root, Path(args.output), tuple(args.seeds))
    studies: dict[str, Callable[[], Outcome]] = {
        "grid": lambda: grid.study(setting, args.jobs),
        "supports": lambda: supports.study(setting),
        "residual": lambda: residual.study(setting),
        "spectra": lambda: spectra.study(setting),
        "rank": rank.study,
        "inference": inference.study,
    }
    for name in chosen:
        outcome = studies[name]()
        notes = outcome.remark if name in ALONE else f"seeds {args.seeds}. {outcome.remark}".strip()
        path = write_record(f"sltrain-{name}", outcome.results, notes=notes)
        print(outcome.table(), path, sep="\n\n")
        for document in args.update:
            update(Path(document), f"sltrain-{name}", f"{outcome.table()}\n\n{_caption(name, args, outcome, path)}")


def _caption(name: str, args: argparse.Namespace, outcome: Outcome, record: Path) -> str:
    """What the table is, and how to get it again."""
    seeds = " ".join(map(str, args.seeds))
    means = "" if name in ALONE else f"Mean +- standard deviation of seeds {args.seeds}. " * (len(args.seeds) > 1)
    data = "" if name in ALONE else f" --root DATA --seeds {seeds}"
    return (
        f"{means}{outcome.remark} On {processor()}. Again: `python benchmarks/sltrain.py {name}{data}`; "
        f"record: `benchmarks/records/{record.name}`."
    )


if __name__ == "__main__":
    main()
