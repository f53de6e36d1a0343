"""A recipe with budgets of equal time in place of equal tokens: steps are timed on this machine, beside dense.

    python benchmarks/equal_time.py supports-study > equal-time.yaml

Each stage that converts layers gets as many times the tokens as its steps are faster than dense ones, timed in
alternating pairs as by `fallow bench step`; warm-up and rate follow the budget as the recipe says.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace

from fallow.config import dump
from fallow.run.recipe import Recipe, load
from fallow.run.step_bench import time_steps


def main() -> None:
    """Time, scale, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--pairs", type=int, default=7)
    args = parser.parse_args()
    recipe = load(args.recipe)
    print(dump(of_equal_time(recipe, speed_ups(recipe, args.pairs))))


def speed_ups(recipe: Recipe, pairs: int) -> dict[str, float]:
    """How many times as fast as a dense one a step of each stage is, for those that convert layers."""
    rows = time_steps(recipe, pairs=pairs, say=lambda line: print(line, file=sys.stderr))
    return {row.stage: row.speed_up for row in rows}


def of_equal_time(recipe: Recipe, faster: Mapping[str, float]) -> Recipe:
    """The recipe with budgets multiplied by these speed-ups, where it has one for a stage."""
    if any(stage.trains and not stage.budget.tokens for stage in recipe.stages):
        raise SystemExit("every budget must be in tokens")
    stages, notes = [], []
    for stage in recipe.stages:
        if stage.name in faster:
            tokens = round(stage.budget.tokens * faster[stage.name])
            notes.append(
                f"{stage.label}: {faster[stage.name]:.2f} times as fast a step as dense, so {tokens:,} tokens."
            )
            stage = replace(stage, budget=replace(stage.budget, tokens=tokens))
        stages.append(stage)
    name = f"{recipe.name}-equal-time"
    return replace(recipe, name=name, output="", stages=tuple(stages), notes=(*recipe.notes, *notes))


if __name__ == "__main__":
    main()
