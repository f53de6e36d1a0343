"""What stands under the table of a run: how its numbers came about."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fallow.run.recipe import Recipe
from fallow.run.stage import Stage

Record = Mapping[str, Any]


def notes_of(recipe: Recipe, stages: Sequence[Stage], records: Mapping[str, Record]) -> list[str]:
    """The remarks of the recipe, then what the records of its finished stages say about themselves."""
    found = [records[stage.name] for stage in stages]
    return [
        *recipe.notes,
        *_cost([record["training"] for record in found]),
        *dict.fromkeys(note for stage in stages for note in _texts(stage, records[stage.name]["scores"])),
        *(note for stage in stages for note in _grid(stage, records[stage.name])),
    ]


def _cost(trained: Sequence[Record]) -> Iterator[str]:
    if any(t["flops_executed"] > t["flops"] for t in trained):
        yield (
            "FLOPs count what sparsity needs. The path that computed these layers, materialise, multiplies by the "
            "zeros too: on this machine the saving is in memory, not in time, which the measured speed shows."
        )
    if (processes := max(t["processes"] for t in trained)) > 1:
        yield f"Bytes of weights and optimizer are those of one of {processes} processes."


def _texts(stage: Stage, scores: Record) -> Iterator[str]:
    """The same words for stages that were judged alike, so that they are said once."""
    if "signature" in scores:
        yield (
            f"{stage.dataset}: BLEU is sacrebleu's ({scores['signature']}) on {scores['num_contexts']} of "
            f"{scores['num_contexts_total']} distinct {scores['split']} contexts; perplexity is per target token on "
            "all of them."
        )
    if "decoding" in scores:
        yield f"{stage.dataset}: texts by {scores['decoding']['words']}."


def _grid(stage: Stage, record: Record) -> Iterator[str]:
    grid = record.get("grid")
    if grid:
        losses = "; ".join(f"{t['settings']} -> {t['loss']:.4f}" for t in grid["tried"])
        yield f"{stage.label}: settings chosen by validation loss: {losses}."
