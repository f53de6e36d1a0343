"""A recipe with budgets of equal time in place of equal tokens: steps are timed on this machine, beside dense.

    python benchmarks/equal_time.py supports-study > equal-time.yaml

Each stage that converts layers gets as many times the tokens as its steps are faster than dense ones, timed in
alternating pairs as by `fallow bench step`; warm-up and rate follow the budget as the recipe says.
"""

import argparse
import sys
from dataclasses import replace

from fallow.config import dump
from fallow.run.recipe import load
from fallow.run.step_bench import time_steps


def main() -> None:
    """Time, scale, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--pairs", type=int, default=7)
    args = parser.parse_args()
    recipe = load(args.recipe)
    if any(stage.trains and not stage.budget.tokens for stage in recipe.stages):
        raise SystemExit("every budget must be in tokens")
    speed = {
        row.stage: row for row in time_steps(recipe, pairs=args.pairs, say=lambda line: print(line, file=sys.stderr))
    }
    stages, notes = [], []
    for stage in recipe.stages:
        if stage.name in speed:
            faster = speed[stage.name].speed_up
            tokens = round(stage.budget.tokens * faster)
            notes.append(f"{stage.label}: {faster:.2f} times as fast a step as dense, so {tokens:,} tokens.")
            stage = replace(stage, budget=replace(stage.budget, tokens=tokens))
        stages.append(stage)
    name = f"{recipe.name}-equal-time"
    print(dump(replace(recipe, name=name, output="", stages=tuple(stages), notes=(*recipe.notes, *notes))))


if __name__ == "__main__":
    main()
