"""The rows of a run's table, from records made here."""

import math
from typing import Any

from fallow.run.recipe import Recipe, load
from fallow.run.results import collect


def record(stored: int, nonzero: int, loss: float) -> dict[str, Any]:
    part = {"weights": 4 * stored, "gradients": 4 * stored, "optimizer": 8 * stored, "indices": 0}
    training = {
        "flops": 10, "flops_dense": 10, "flops_executed": 10, "ceiling": 1.0, "tokens_per_second": 5.0, "processes": 1,
        "counts": {"stored": stored, "nonzero": nonzero, "positions": 100, "trainable": stored},
        "memory": {"layers": part, "rest": part},
    }  # fmt: skip
    return {"training": training, "scores": {"loss": loss, "split": "validation"}}


def table(recipe: Recipe, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return collect(recipe, records, {name: [] for name in records})


def test_sums_of_terms_are_told_apart_by_what_they_store() -> None:
    recipe = load("sltrain-demo")
    records = {stage.name: record(100, 100, 3.0) for stage in recipe.stages}
    records["sltrain"] = record(60, 100, 2.0)
    found = table(recipe, records)
    keys = [column["key"] for column in found["columns"]]
    assert "stored" in keys and "valid_perplexity" in keys and not {"sparsity", "nonzero"} & set(keys)
    row = next(row for row in found["rows"] if row["arm"] == "SLTrain")
    assert (row["stored"], row["valid_loss"], row["valid_perplexity"]) == (60, 2.0, math.exp(2.0))


def test_sparse_arms_are_told_apart_by_what_is_not_zero() -> None:
    recipe = load("spdf-demo")
    records = {stage.name: record(40, 40, 3.0) for stage in recipe.stages if stage.name.startswith("pretrain")}
    keys = [column["key"] for column in table(recipe, records)["columns"]]
    assert {"sparsity", "nonzero"} <= set(keys) and "stored" not in keys
