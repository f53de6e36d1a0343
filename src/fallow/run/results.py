"""From the records of the stages to `results.json`: one row for each way through the recipe."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from fallow import __version__
from fallow.metrics.classification import METRICS
from fallow.metrics.scores import as_printed
from fallow.report.sections import gates_of_results, mixtures_of
from fallow.run.benchmarks import benchmark_columns, benchmark_values
from fallow.run.domains import by_domain
from fallow.run.notes import TEXT_SCORES, notes_of
from fallow.run.output import recipe_dict, told
from fallow.run.recipe import Recipe
from fallow.run.stage import Stage

Record = Mapping[str, Any]

COLUMNS: list[dict[str, Any]] = [
    {"key": "arm", "title": "arm"},
    {"key": "sparsity", "title": "sparsity", "unit": "%", "digits": 0, "scale": 0.01},
    {"key": "pruned", "title": "pruned", "unit": "%", "digits": 0, "scale": 0.01},
    {"key": "trainable", "title": "trained", "unit": "M", "digits": 3, "scale": 1e6},
    {"key": "linear_flops_left", "title": "multiplications left", "unit": "%", "digits": 1, "scale": 0.01},
    {"key": "nonzero", "title": "non-zero weights", "unit": "M", "digits": 2, "scale": 1e6},
    {"key": "stored", "title": "stored parameters", "unit": "M", "digits": 2, "scale": 1e6},
    {"key": "flops", "title": "training FLOPs", "unit": "1e12", "digits": 2, "scale": 1e12},
    {"key": "reduction", "title": "fewer than dense", "unit": "x", "digits": 2},
    {"key": "ceiling", "title": "ceiling", "unit": "x", "digits": 2},
    {"key": "speed", "title": "measured speed", "unit": "tokens/s", "digits": 0},
    {"key": "valid_loss", "title": "pre-training valid. loss", "unit": "nats", "digits": 3, "better": "low"},
    {"key": "valid_perplexity", "title": "perplexity", "digits": 2, "better": "low"},
    {"key": "perplexity", "title": "perplexity after tuning", "digits": 2, "better": "low"},
    {"key": "win_rate", "title": "win rate", "digits": 3, "better": "high"},
    {"key": "bleu", "title": "BLEU", "digits": 2, "better": "high"},
    {"key": "nist", "title": "NIST", "digits": 2, "better": "high"},
    {"key": "meteor", "title": "METEOR", "digits": 2, "better": "high"},
    {"key": "rouge_l", "title": "ROUGE-L", "digits": 2, "better": "high"},
    {"key": "cider", "title": "CIDEr", "digits": 2, "better": "high"},
    {"key": "ter", "title": "TER", "digits": 2, "better": "low"},
    {"key": "chrf", "title": "chrF++", "digits": 2, "better": "high"},
    {"key": "matthews", "title": "Matthews corr.", "unit": "%", "digits": 2, "scale": 0.01, "better": "high"},
    {"key": "f1", "title": "F1", "unit": "%", "digits": 2, "scale": 0.01, "better": "high"},
    {"key": "accuracy", "title": "accuracy", "unit": "%", "digits": 2, "scale": 0.01, "better": "high"},
    {"key": "pearson", "title": "Pearson corr.", "unit": "%", "digits": 2, "scale": 0.01, "better": "high"},
    {"key": "spearman", "title": "Spearman corr.", "unit": "%", "digits": 2, "scale": 0.01, "better": "high"},
    {"key": "bytes", "title": "weights + optimizer", "unit": "MB", "digits": 1, "scale": 1e6},
]
"""The table; columns without a value in any row are left out."""


def collect(recipe: Recipe, records: Mapping[str, Record], logs: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """Everything that a report is made of; see `fallow.report.tables` for the form.

    A row is a way through the recipe: a stage that no other one begins with, and the stages before it. Sparsity,
    counts, bytes, speed and the ceiling are those of its first stage, or of the first one after the model was cut to
    another shape; FLOPs are summed over all of them; the validation loss is that of the last stage on the first one's
    data; perplexity and the scores of texts are those of the last stage, as papers print them (0 to 100 where the
    script gives 0 to 1).
    """
    done = [stage for stage in recipe.stages if stage.name in records]
    rows = _without_the_obvious([_row([records[stage.name] for stage in way], way) for way in ways(done)])
    columns = [*COLUMNS, *benchmark_columns(records)]
    used = [column for column in columns if any(row.get(column["key"]) is not None for row in rows)]
    return {
        "fallow": __version__,
        "recipe": recipe_dict(recipe),
        "columns": used,
        "rows": rows,
        "domains": by_domain(done, records),
        "curves": [curve for stage in done for curve in _curves(stage, logs[stage.name])],
        "gates": gates_of_results({stage.label: records[stage.name] for stage in done}),
        "mixtures": mixtures_of({stage.label: logs[stage.name] for stage in done}),
        "samples": _samples(done, records),
        "notes": notes_of(recipe, done, records),
        "stages": {name: _without_samples(record) for name, record in records.items()},
    }


def ways(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Each stage that no other of these begins with, after the stages that lead to it.

    A stage that others only prune is one, too: pruned models are compared with it.
    """
    by_name = {stage.name: stage for stage in stages}
    sources = {stage.model.stage for stage in stages if stage.prune is None}
    found = []
    for leaf in stages:
        if leaf.name not in sources:
            way = [leaf]
            while way[0].model.stage:
                way.insert(0, by_name[way[0].model.stage])
            found.append(way)
    return found


def _row(records: Sequence[Record], way: Sequence[Stage]) -> dict[str, Any]:
    first, last = records[0], records[-1]
    training = [record["training"] for record in records]
    shown = _last_shape(way, training)
    counts, memory = training[shown]["counts"], training[shown]["memory"]
    pruned = next((t["pruned"] for t in reversed(training) if t.get("pruned")), None)
    last_counts = {"apart": 0, **training[-1]["counts"]}
    is_frozen = last_counts["trainable"] < last_counts["stored"]
    flops, dense = sum(t["flops"] for t in training), sum(t["flops_dense"] for t in training)
    held = memory["layers"], memory["rest"]
    tuned = "metrics" in last["scores"]
    pretrained = [r for r, stage in zip(records, way, strict=True) if stage.dataset == way[0].dataset][-1]
    loss = None if first["scores"].keys() & _TUNED else pretrained["scores"].get("loss")
    texts = as_printed(last["scores"]["metrics"]) if tuned else {}
    return {
        "arm": way[-1].label,
        "stages": [stage.name for stage in way],
        "sparsity": getattr(way[shown].method, "sparsity", 0.0),
        "pruned": pruned["sparsity"] if pruned else None,
        "linear_flops_left": pruned["linear_flops_left"] if pruned else None,
        "trainable": last_counts["trainable"] if is_frozen else None,
        "nonzero": last_counts["apart"] if pruned else counts["nonzero"],
        "stored": counts["stored"],
        "flops": flops,
        "reduction": dense / flops if flops else None,
        "ceiling": None
        if is_frozen
        else training[shown]["ceiling"],  # it knows what sparsity saves, and no frozen weights
        "speed": training[shown]["tokens_per_second"],
        "valid_loss": loss,
        "valid_perplexity": None if tuned or loss is None else math.exp(loss),
        "perplexity": math.exp(last["scores"]["loss"]) if tuned else None,
        **{key: texts.get(key) for key in TEXT_SCORES},
        "win_rate": last["scores"].get("win_rate"),
        **{key: last["scores"].get(key) for key in METRICS},
        **benchmark_values(last["scores"]),
        "bytes": sum(part["weights"] + part["optimizer"] + part["indices"] for part in held),
    }


def _last_shape(way: Sequence[Stage], training: Sequence[Record]) -> int:
    """Number of the stage that begins with the shape that the way ends with."""
    begins = [0]
    for number, stage in enumerate(way):
        if stage.model.cut is not None:
            begins.append(number)
        if "parameters_left" in training[number] and number + 1 < len(way):
            begins.append(number + 1)
    return begins[-1]


def _without_the_obvious(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without what would say nothing in any of them: counts of a kind that no arm differs in."""
    dropped = []
    if all(abs(row["stored"] - row["nonzero"]) < 0.01 * row["nonzero"] for row in rows):
        dropped.append("stored")  # a sparse arm stores what is not zero
    elif not any(row["sparsity"] or row["pruned"] for row in rows):
        dropped += ["sparsity", "nonzero"]  # sums of terms: no weight is zero, and what is stored differs
    if any(row["valid_perplexity"] is None for row in rows):
        dropped.append("valid_perplexity")  # that after tuning is shown
    return [{key: value for key, value in row.items() if key not in dropped} for row in rows]


_TUNED = {"metrics", "task"}
"""Scores that only fine-tuning has."""


def _curves(stage: Stage, log: Sequence[Record]) -> list[dict[str, Any]]:
    chart = stage.dataset
    train = [[line["tokens"], line["loss"]] for line in log if "loss" in line]
    valid = [[line["tokens"], line["valid"]["loss"]] for line in log if "valid" in line]
    curves = [{"label": stage.label, "stage": chart, "kind": "train", "points": smooth(train)}]
    if len(valid) > 1:
        curves.append({"label": stage.label, "stage": chart, "kind": "valid", "points": valid})
    return curves


def smooth(points: Sequence[Sequence[float]], num: int = 120) -> list[list[float]]:
    """At most `num` points, each the mean over its share of the steps.

    >>> smooth([[1, 4.0], [2, 2.0], [3, 1.0], [4, 1.0]], num=2)
    [[2, 3.0], [4, 1.0]]
    """
    if len(points) <= num:
        return [list(point) for point in points]
    edges = [i * len(points) // num for i in range(num + 1)]
    shares = [points[a:b] for a, b in pairwise(edges)]
    return [[share[-1][0], sum(loss for _, loss in share) / len(share)] for share in shares]


def _samples(stages: Sequence[Stage], records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Texts of all arms that were generated for the same context, side by side."""
    found: dict[str, dict[str, Any]] = {}
    for stage in stages:
        for sample in records[stage.name]["scores"].get("samples", []):
            entry = found.setdefault(
                sample["context"], {"context": sample["context"], "references": sample["references"], "outputs": {}}
            )
            entry["outputs"][stage.label] = sample["output"]
    return list(found.values())


def _without_samples(record: Record) -> dict[str, Any]:
    plain = told(record)
    plain["scores"] = {key: value for key, value in record["scores"].items() if key != "samples"}
    return plain
