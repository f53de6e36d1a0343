"""What stands under the table of a run: how its numbers came about."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fallow.run.benchmarks import benchmark_notes
from fallow.run.recipe import Recipe
from fallow.run.stage import Stage

Record = Mapping[str, Any]

TEXT_SCORES = ("bleu", "nist", "meteor", "rouge_l", "cider", "ter", "chrf")
"""Scores of generated texts that have a column in the table; the record of a stage holds all."""


def notes_of(recipe: Recipe, stages: Sequence[Stage], records: Mapping[str, Record]) -> list[str]:
    """The remarks of the recipe, then what the records of its finished stages say about themselves."""
    found = [records[stage.name] for stage in stages]
    return [
        *recipe.notes,
        *_cost([record["training"] for record in found]),
        *dict.fromkeys(note for stage in stages for note in _text(stage, records[stage.name]["scores"])),
        *dict.fromkeys(note for stage in stages for note in _texts(stage, records[stage.name]["scores"])),
        *(note for stage in stages for note in _paths(stage, records[stage.name]["training"])),
        *(note for stage in stages for note in _verdict(stage, records[stage.name]["training"])),
        *(note for stage in stages for note in _grid(stage, records[stage.name])),
        *(note for stage in stages for note in benchmark_notes(stage.label, records[stage.name]["scores"])),
    ]


def _cost(trained: Sequence[Record]) -> Iterator[str]:
    paths = sorted({str(t["path"]) for t in trained if t["flops_executed"] > t["flops"]})
    if paths:
        yield (
            f"FLOPs count what sparsity needs. The path that computed these layers, {' or '.join(paths)}, multiplies "
            "by the zeros too: on this machine the saving is in memory, not in time, which the measured speed shows."
        )
    if any(t.get("pruned") for t in trained):
        yield (
            "Pruned is the share of the entries of the blocks' linear layers that are zero or cut out; the update is "
            "kept apart, and counted with the non-zero weights. Multiplications left are those of the blocks' linear "
            "layers with a token, update included; zeros save them only where a kernel skips them, heads that are cut "
            "out everywhere. Trained counts a task's head, too."
        )
    if (processes := max(t["processes"] for t in trained)) > 1:
        yield f"Bytes of weights and optimizer are those of one of {processes} processes."


def _texts(stage: Stage, scores: Record) -> Iterator[str]:
    """The same words for stages that were judged alike, so that they are said once."""
    metrics = scores.get("metrics")
    if metrics is None:
        return
    share = f"{scores['num_contexts']} of {scores['num_contexts_total']} distinct {scores['split']} contexts"
    yield (
        f"{stage.dataset}: {share} were decoded ({scores['decoding']['words']}); perplexity is per target token on "
        f"{_sequences(scores, 'all of them')}."
    )
    shown = [key for key in TEXT_SCORES if key in metrics["scores"]]
    exactly = "; ".join(f"{key}: {metrics['variants'][key]}" for key in shown)
    scaled = " Scores between 0 and 1 are shown times 100." if "0 to 1" in metrics["scales"].values() else ""
    yield f"{stage.dataset}: scores by the profile {metrics['profile']}, {metrics['script']}. {exactly}.{scaled}"
    for key, reason in metrics["absent"].items():
        yield f"{stage.dataset}: {key} is absent: {reason}."


def _sequences(scores: Record, whole: str) -> str:
    """On how many sequences the loss was taken."""
    if "num_sequences" not in scores:
        return whole
    return f"{scores['num_sequences']:,} of {scores['num_sequences_total']:,} sequences, evenly spread"


def _text(stage: Stage, scores: Record) -> Iterator[str]:
    stride = scores.get("stride")
    if "num_sequences" in scores and "metrics" not in scores:
        yield f"{stage.dataset}: the loss is that of {_sequences(scores, '')}."
    if stride:
        yield (
            f"{stage.dataset}: loss by windows, a new one every {stride} tokens; every token counts once, the end "
            "token of each document included."
        )
    published = scores.get("n_plus_one")
    if published:
        counted = ", ".join(f"{name}: N = {found['num_batches']}" for name, found in published.items())
        yield (
            f'{stage.dataset}: "N + 1" is the figure of the released code of GaLore and SLTrain, the sum over N '
            f"batches divided by N + 1; it is lower than the loss ({counted})."
        )


def _paths(stage: Stage, training: Record) -> Iterator[str]:
    """Which path computed the layers, and why."""
    shapes: dict[tuple[str, str], list[str]] = {}
    for group in training.get("paths", []):
        shapes.setdefault((group["path"], group["why"]), []).append(group["shape"])
    for (path, why), found in shapes.items():
        yield f"{stage.label}: path {path} for {', '.join(dict.fromkeys(found))}; {why}."


def _verdict(stage: Stage, training: Record) -> Iterator[str]:
    verdict = (training.get("method") or {}).get("verdict")
    if verdict:
        yield f"{stage.label}: the gates have {verdict}."


def _grid(stage: Stage, record: Record) -> Iterator[str]:
    grid = record.get("grid")
    if grid:
        by = stage.validation.by
        found = "; ".join(f"{t['settings']} -> {t[by]:.4f}" for t in grid["tried"])
        yield f"{stage.label}: settings chosen by validation {by}: {found}."
