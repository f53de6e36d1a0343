"""What a study is given and what it gives back."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apart import run_apart

from fallow.run.orchestrate import run_recipe
from fallow.run.recipe import Recipe, load
from fallow.run.stage import Stage

RECIPE = "sltrain-study"


@dataclass(frozen=True)
class Setting:
    """Where the data is, where runs are kept, and which seeds."""

    root: str
    output: Path
    seeds: tuple[int, ...]

    def folder(self, seed: int) -> Path:
        """Of the whole recipe with a seed."""
        return self.output / f"seed-{seed}"

    def recipe(self, seed: int, output: Path) -> Recipe:
        """The recipe with a seed, for another folder; its tokenizer is that of the seed's own run."""
        flags = [("root", self.root), ("seed", seed), ("output", str(output))]
        recipe = load(RECIPE, flags)
        tokenizer = self.folder(seed) / "tokenizer"
        if not tokenizer.exists():
            raise SystemExit(f"{tokenizer} is missing: run the study grid first")
        return replace(recipe, tokenizer=replace(recipe.tokenizer, path=str(tokenizer), vocab_size=0))

    def train(self, seed: int, output: Path, stages: Sequence[Stage]) -> dict[str, Any]:
        """The records of stages that stand in no recipe file, by name; finished ones are taken as they are."""
        found: dict[str, Any] = run_recipe(replace(self.recipe(seed, output), stages=tuple(stages)), json=True)
        return dict(found["stages"])

    def run(self, seed: int, output: Path, *flags: str) -> dict[str, Any]:
        """`fallow run` in a process of its own; the same call continues it."""
        return run_apart(RECIPE, output, seed, *flags, root=self.root)


@dataclass(frozen=True)
class Outcome:
    """Numbers for the record, and a table with a remark for the document."""

    results: Any
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    remark: str

    def table(self) -> str:
        """Markdown."""
        lines = ["| " + " | ".join(self.heads) + " |", "| --- |" + " ---: |" * (len(self.heads) - 1)]
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in self.rows)])


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation (of one value: 0)."""
    return {"mean": statistics.fmean(values), "spread": statistics.stdev(values) if len(values) > 1 else 0.0}


def text(value: dict[str, float], digits: int = 3) -> str:
    """Mean +- standard deviation."""
    return f"{value['mean']:.{digits}f} +- {value['spread']:.{digits}f}"


def perplexity_text(losses: Sequence[float]) -> str:
    """Mean +- standard deviation of the perplexities."""
    return text(spread([math.exp(loss) for loss in losses]), 2)
