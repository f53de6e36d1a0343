"""Arms of shear-stories on one trained source: how they are chosen, at equal tokens; mixtures; the split of the budget.

    python benchmarks/shearing.py --root DATA --source runs/shear-stories/source/model --output runs/shearing
    python benchmarks/shearing.py ... --seeds 0 1 2 --prune 200 --continue 75 --update docs/shearing.md
    python benchmarks/shearing.py ... --split 100 200 400      how many updates prune, of the same number of tokens
                                                               (the paper's Table 5); no other arms, a table of its own
    python benchmarks/shearing.py ... --summary                of what is finished; nothing is trained

The source is one model for all seeds. Seeds differ in the gates' noise, the order of the data, what is cut at random
and initial weights. Finished stages below --output are taken as they are. The table has, for each arm, the mean loss
over the eight domains, and how far their losses lie above the source's: mean, standard deviation over domains, largest.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from record import write_record
from seeds import update

from fallow.run.orchestrate import run_recipe
from fallow.run.recipe import Recipe, load
from fallow.run.stage import Stage
from fallow.train.settings import Duration, Schedule

ARMS = ("continue", "continue-fixed", "taylor", "random", "scratch")
MARK, SPLIT = "shear-stories", "shear-split"


def main() -> None:
    """Train what is missing, summarise, record, update."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--source", required=True, help="model folder of the recipe's stage source")
    parser.add_argument("--output", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--prune", type=int, default=320, help="updates of pruning, 8 sequences each")
    parser.add_argument("--continue", dest="go_on", type=int, default=200, help="updates after it, 32 sequences each")
    parser.add_argument("--split", nargs="*", type=int, default=[], help="updates of pruning to compare")
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--update", nargs="*", default=[], help="documents whose table is replaced")
    args = parser.parse_args()
    quarters = args.prune + 4 * args.go_on
    source = domains(train(args, 0, ["source"], args.prune, args.go_on, "source"), "source")
    facts = {"tokens": quarters * 8 * 128, "source": source}
    if args.split:
        mark, text = SPLIT, compare_splits(args, facts)
    else:
        mark, text = MARK, compare_arms(args, facts)
    print(text)
    for document in args.update:
        update(Path(document), mark, text)


def compare_arms(args: argparse.Namespace, facts: dict[str, Any]) -> str:
    """Each arm over the seeds: a record, and a table with what it is."""
    source = facts["source"]
    runs = [train(args, seed, args.arms, args.prune, args.go_on, f"seed-{seed}") for seed in args.seeds]
    rows = [row(arm, [stages for stages in runs if arm in stages], source) for arm in args.arms]
    rows = [found for found in rows if found["seeds"]]
    facts |= {"prune": args.prune, "continue": args.go_on}
    path = write_record(MARK, [facts, {"arms": rows}], notes="one source for all seeds")
    return f"{table(rows)}\n\n{caption(args, facts, path, f'--prune {args.prune} --continue {args.go_on}')}"


def compare_splits(args: argparse.Namespace, facts: dict[str, Any]) -> str:
    """As many tokens, more or fewer of them for pruning: a record, and a table with what it is."""
    quarters, splits = args.prune + 4 * args.go_on, []
    for prune in args.split:
        if prune % 4 != args.prune % 4 or not 0 < prune < quarters:
            raise SystemExit(f"--split {prune}: {quarters} eighths of a batch cannot be shared out like that")
        go_on = (quarters - prune) // 4
        runs = [train(args, seed, ["continue"], prune, go_on, f"split-{prune}-seed-{seed}") for seed in args.seeds]
        found = row("continue", [stages for stages in runs if "continue" in stages], facts["source"])
        splits.append({**found, "prune": prune, "continue": go_on})
    path = write_record(SPLIT, [facts, {"splits": splits}], notes="one source for all seeds")
    flags = f"--prune {args.prune} --continue {args.go_on} --split {' '.join(map(str, args.split))}"
    return f"{split_table(splits)}\n\n{caption(args, facts, path, flags)}"


def train(args: argparse.Namespace, seed: int, arms: Sequence[str], prune: int, go_on: int, name: str) -> Any:
    """The records of finished stages by name."""
    recipe = derived(args, seed, prune, go_on)
    folder = Path(args.output) / name
    wanted = recipe.lineage([arm for arm in arms if arm in [stage.name for stage in recipe.stages]])
    recipe = replace(recipe, output=str(folder), stages=tuple(s for s in recipe.stages if s.name in wanted))
    if args.summary:
        found = {stage.name: folder / stage.name / "stage.json" for stage in recipe.stages}
        return {key: json.loads(file.read_text()) for key, file in found.items() if file.is_file()}
    return run_recipe(recipe, json=True)["stages"]


def derived(args: argparse.Namespace, seed: int, prune: int, go_on: int) -> Recipe:
    """The shipped recipe with a source that is there already, other budgets, and one pruning for both mixtures."""
    recipe = load("shear-stories", [("root", args.root), ("seed", seed), ("tokenizer.path", args.source)])
    stages = []
    for stage in recipe.stages:
        if stage.name == "prune-fixed":
            continue
        model, mixture = stage.model, stage.mixture
        if stage.name == "source":
            # judged as it is: a stage trains at least one update, and this rate leaves the weights
            optimizer = replace(stage.optimizer, lr=1e-12) if stage.optimizer else None
            model = replace(model, path=args.source)
            stage = replace(stage, model=model, optimizer=optimizer, schedule=Schedule(kind="constant"))
            stages.append(with_steps(stage, 1))
            continue
        if model.stage == "source":
            model = replace(model, stage="", path=args.source)
        if model.stage == "prune-fixed":
            model = replace(model, stage="prune")
        if mixture.references.stage:
            mixture = replace(mixture, references=replace(mixture.references, stage="", path=args.source))
        stage = replace(stage, model=model, mixture=mixture)
        if stage.name == "prune":
            stage = replace(stage, method=replace(stage.method, warmup=prune // 4))  # type: ignore[call-arg]
            steps = prune
        else:
            steps = go_on if stage.name.startswith("continue") else (prune + 4 * go_on) // 4
        stages.append(with_steps(stage, steps))
    return replace(recipe, stages=tuple(stages))


def with_steps(stage: Stage, steps: int) -> Stage:
    """The stage with another budget, and the warm-up of its rate at most a fifth of it."""
    warmup = min(stage.schedule.warmup.steps, steps // 5)
    schedule = replace(stage.schedule, warmup=Duration(steps=warmup))
    return replace(stage, budget=Duration(steps=steps), schedule=schedule)


def domains(stages: Any, name: str) -> dict[str, float]:
    """Held-out loss by domain of a finished stage."""
    scores = stages[name]["scores"]
    return {key: found["loss"] for key, found in scores["parts"].items()}


def losses(stages: Any, source: dict[str, float], arm: str = "continue") -> dict[str, Any]:
    """Mean loss over domains, and its distance to the source's."""
    found = domains(stages, arm)
    gaps = [found[key] - source[key] for key in source]
    return {
        "loss": statistics.fmean(found.values()),
        "gap": statistics.fmean(gaps),
        "spread": statistics.stdev(gaps),
        "largest": max(gaps),
        "before": statistics.fmean(domains(stages, "prune").values()) if "prune" in stages else None,
        "verdict": (stages.get("prune", {}).get("training", {}).get("method") or {}).get("verdict"),
    }


def row(arm: str, runs: Sequence[Any], source: dict[str, float]) -> dict[str, Any]:
    """One arm over its seeds."""
    found = [losses(stages, source, arm) for stages in runs]
    means = {
        key: (statistics.fmean(f[key] for f in found), statistics.stdev(f[key] for f in found) if len(found) > 1 else 0)
        for key in (KEYS if found else ())
    }
    return {"arm": arm, "seeds": len(found), **means, "runs": found}


LABELS = {
    "continue": "pruned by gates, mixture follows",
    "continue-fixed": "pruned by gates, fixed mixture",
    "taylor": "cut by Taylor scores",
    "random": "cut at random",
    "scratch": "from scratch",
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| arm | seeds | loss (nats) | above the source | spread over domains | largest |",
             "| --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for found in rows:
        several = found["seeds"] > 1
        cells = [f"{mean:.3f}" + f" +- {off:.3f}" * several for mean, off in (found[k] for k in KEYS)]
        lines.append(f"| {LABELS[found['arm']]} | {found['seeds']} | {' | '.join(cells)} |")
    return "\n".join(lines)


KEYS = ("loss", "gap", "spread", "largest")


def split_table(splits: Sequence[dict[str, Any]]) -> str:
    """Markdown: the split of equal tokens, as in the paper's Table 5."""
    lines = ["| updates of pruning | updates after it | loss as pruned (nats) | loss in the end (nats) | gates |",
             "| ---: | ---: | ---: | ---: | --- |"]  # fmt: skip
    for found in splits:
        cells = [spread([run[key] for run in found["runs"]]) for key in ("before", "loss")]
        verdicts = [str(run["verdict"]).partition(",")[0] for run in found["runs"]]
        counted = ", ".join(f"{verdicts.count(v)} x {v}" for v in dict.fromkeys(verdicts))
        said = verdicts[0] if len(set(verdicts)) == 1 else counted
        lines.append(f"| {found['prune']} | {found['continue']} | {' | '.join(cells)} | {said} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean, and with several values their standard deviation."""
    off = f" +- {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{off}"


def caption(args: argparse.Namespace, facts: dict[str, Any], path: Path, flags: str) -> str:
    """What a table is, and how to get it again."""
    listed = " ".join(map(str, args.seeds))
    over = "Mean +- standard deviation over seeds." if len(args.seeds) > 1 else f"Seed {args.seeds[0]} alone."
    parts = f"pruning {args.prune} updates, {args.go_on} after it" if "prune" in facts else (
        "an update of pruning has 1,024 of them, one after it 4,096"
    )  # fmt: skip
    reached = statistics.fmean(facts["source"].values())
    return (
        f"{facts['tokens']:,} tokens for each row; {parts}. {over} The source has a mean loss of {reached:.3f}. Again: "
        f"`python benchmarks/shearing.py --root DATA --source FOLDER --output runs/shearing --seeds {listed} {flags}`; "
        f"record: `benchmarks/records/{path.name}`."
    )


if __name__ == "__main__":
    main()
