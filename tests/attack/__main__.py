"""`make attack`: all attacks, or some of them, then a table of counts by area and outcome."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TRITON_INTERPRET="1", JAVA_HOME=os.devnull)
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tests.attack import families, inputs, kernel_calls, kills, mutations, owners, power, security
from tests.attack.bench import Base, make_base
from tests.attack.cases import Result, Task, counts_of, table
from tests.attack.pool import work_on

Make = Callable[[Sequence[Base], int, int], list[Task]]
AREAS: dict[str, tuple[Make, int, int]] = {
    "mutations": (mutations.tasks, 400, 10),
    "kills": (kills.tasks, 150, 15),
    "power": (power.tasks, 80, 12),
    "inputs": (lambda bases, seed, num: inputs.tasks(bases[0], seed, num), 2200, 45),
    "owners": (owners.tasks, 100, 5),
    "security": (lambda bases, seed, num: security.tasks(bases[0], num), 1000, 16),
    "kernels": (lambda bases, seed, num: kernel_calls.tasks(seed, num), 4000, 200),
}
"""Area -> what makes its tasks of finished runs, a seed and a number; how many of them by default, and in short."""
SHORT = ("sparse", "dsee")
"""Families of the short form."""


def attack(
    numbers: dict[str, int], names: Sequence[str], *, seed: int, jobs: int, scratch: Path, say: Callable[[str], None]
) -> list[Result]:
    """All results of some areas, with so many cases each, on some families of runs, worked on in `scratch`."""
    load_everything()
    results = []
    say(f"undisturbed runs: {', '.join(names)}")
    halfway = bool({"mutations", "security"} & numbers.keys())
    bases = [make_base(scratch, family, halfway=halfway) for family in names]
    for area, num in numbers.items():
        tasks = AREAS[area][0](bases, seed, num)
        say(f"{area}: {len(tasks)} tasks")
        results += work_on(tasks, scratch, jobs=jobs, say=say)
    return results


def load_everything() -> None:
    """Import what commands use, so that forks begin with it. Nothing is computed here: no thread may exist yet."""
    import importlib

    from fallow.cli.main import COMMANDS

    for module, _ in COMMANDS.values():
        importlib.import_module(module)
    for name in (
        "fallow.run.orchestrate", "fallow.report.pages", "fallow.report.runs", "fallow.cli.arguments", "sacrebleu",
        "transformers.models.gpt2.modeling_gpt2", "transformers.models.llama.modeling_llama",
        "transformers.models.bert.modeling_bert", "torch.distributed.checkpoint", "rich.console", "fallow.hf.export",
        "fallow.hf.peft_export", "fallow.hf.update_file", "fallow.run.reread",
    ):  # fmt: skip
        importlib.import_module(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Attack, show the table; 1 when anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(AREAS), default=list(AREAS), help="areas; by default all")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of cases")
    parser.add_argument("--num", type=int, default=0, help="cases of each area, where it has as many")
    parser.add_argument("--short", action="store_true", help="a sample that takes less than a minute")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--json", metavar="FILE", help="write counts and failures to this file")
    args = parser.parse_args(argv)
    begun = time.monotonic()
    numbers = {area: args.num or AREAS[area][2 if args.short else 1] for area in args.only}
    names = SHORT if args.short else list(families.RECIPES)
    if not {"mutations", "kills", "owners", "power"} & numbers.keys():
        names = ["sparse"]
    with tempfile.TemporaryDirectory(prefix="fallow-attack-") as scratch:
        results = attack(numbers, names, seed=args.seed, jobs=args.jobs, scratch=Path(scratch), say=_say)
    bad = [result for result in results if result.is_bad]
    print(table(results))
    print(f"\n{(time.monotonic() - begun) / 60:.1f} minutes, seed {args.seed}, {len(bad)} failed")
    if args.json:
        listed = [{"area": r.area, "name": r.name, "outcome": r.outcome, "detail": r.detail} for r in bad]
        facts = {"counts": counts_of(results), "failures": listed, "seed": args.seed}
        Path(args.json).write_text(json.dumps(facts, indent=1) + "\n")
    return int(bool(bad))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
