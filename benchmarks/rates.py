"""Which learning rate suits each arm of a recipe: the pre-training stages, again with other rates and rules.

    python benchmarks/rates.py spdf-demo --rates 2e-3 4e-3 8e-3 --jobs 2
    python benchmarks/rates.py spdf-e2e --root DATA --rates 1e-3 2e-3 4e-3 --stages pretrain-dense pretrain-75
    python benchmarks/rates.py sltrain-demo --stages sltrain --rates 4e-3 8e-3 --scales 1 4 --add RECORD
    python benchmarks/rates.py spdf-e2e --root DATA --models runs/e2e --stages tune-dense tune-75 --rates 5e-4 1e-3

Every sparse stage is tried under both parametrizations, each rate with each factor on the rate of the embeddings. Each
job is one process with its share of the threads. The record holds the validation loss of every trial; rates of recipes
are chosen from it.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from record import write_record

from fallow.methods import Sparse
from fallow.run.recipe import Recipe, load
from fallow.run.stage import Stage


def main() -> None:
    """Run the trials in parallel and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--rates", nargs="+", type=float, required=True)
    parser.add_argument("--stages", nargs="*", default=[], help="by default every stage that begins with a new model")
    parser.add_argument("--rules", nargs="*", default=["standard", "supar"], help="parametrizations of sparse stages")
    parser.add_argument("--scales", nargs="+", type=float, default=[1.0], help="values of embedding_scale")
    parser.add_argument("--add", default="", help="an earlier record, whose trials the new one keeps")
    parser.add_argument("--tokens", type=int, default=0, help="another budget, for a shorter look")
    parser.add_argument("--models", default="", help="folder of a finished run whose models the stages begin with")
    parser.add_argument("--root", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--job", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job >= 0:
        run_share(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        threads = str(max(1, (os.cpu_count() or 1) // args.jobs))
        command = [sys.executable, *sys.argv, "--folder", folder]
        jobs = [
            subprocess.Popen([*command, "--job", str(job)], env={**os.environ, "OMP_NUM_THREADS": threads})
            for job in range(args.jobs)
        ]
        if any(job.wait() for job in jobs):
            raise SystemExit("a job failed")
        found = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("share-*.json"))]
    earlier = json.loads(Path(args.add).read_text())["results"] if args.add else []
    results = [*earlier, *(trial for share in found for trial in share)]
    results.sort(key=lambda t: (t["stage"], t["rule"], t["lr"], t.get("embedding_scale", 1)))
    for t in results:
        rates = f"lr {t['lr']:<8g} embeddings {t.get('embedding_scale', 1):<4g}"
        print(f"{t['stage']:18} {t['rule']:10} {rates} validation loss {t['loss']:.4f}")
    kind = "tuning-rates" if args.models else "rates"
    print(write_record(f"{args.recipe}-{kind}", results, notes=f"seed {load(args.recipe).seed}; jobs {args.jobs}"))


def trials_of(recipe: Recipe, args: argparse.Namespace) -> list[tuple[dict[str, Any], Stage]]:
    """Every combination as a stage of its own."""
    chosen = [s for s in recipe.stages if (s.name in args.stages if args.stages else s.model.config)]
    found = []
    for stage in chosen:
        sparse = isinstance(stage.method, Sparse)
        for rule in args.rules if sparse else ["dense"]:
            method = replace(stage.method, parametrization=rule) if isinstance(stage.method, Sparse) else stage.method
            for rate, scale in itertools.product(args.rates, args.scales):
                changed = replace(
                    stage,
                    name=f"{stage.name}-{rule}-{rate:g}-{scale:g}".replace(".", "_").replace("+", ""),
                    method=method,
                    optimizer=replace(stage.optimizer, lr=rate, embedding_scale=scale),
                )
                if args.tokens:
                    changed = replace(changed, budget=replace(stage.budget, tokens=args.tokens, steps=0))
                if args.models:
                    source = Path(args.models) / stage.model.stage / "model"
                    few = replace(
                        stage.evaluate.decoding, max_contexts=8
                    )  # chosen by validation loss; texts are not needed
                    changed = replace(
                        changed,
                        model=replace(stage.model, stage="", path=str(source)),
                        evaluate=replace(stage.evaluate, decoding=few),
                    )
                tokens = changed.budget.tokens
                facts = {"stage": stage.name, "rule": rule, "lr": rate, "embedding_scale": scale, "tokens": tokens}
                found.append((facts, changed))
    return found


def run_share(args: argparse.Namespace) -> None:
    """Every so-manyth trial, one after another."""
    from fallow.run.orchestrate import run_recipe

    recipe = load(args.recipe, [("root", args.root)] if args.root else [])
    share = trials_of(recipe, args)[args.job :: args.jobs]
    tokenizer = recipe.tokenizer
    if args.models:
        tokenizer = replace(tokenizer, path=str(Path(args.models) / "tokenizer"), vocab_size=0)
    output = str(Path(args.folder) / f"job-{args.job}")
    single = replace(recipe, output=output, tokenizer=tokenizer, stages=tuple(stage for _, stage in share))
    stages = run_recipe(single, json=True)["stages"] if share else {}
    found = [{**facts, "loss": stages[stage.name]["training"]["validation"]["loss"]} for facts, stage in share]
    (Path(args.folder) / f"share-{args.job}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
