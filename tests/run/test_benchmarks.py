"""Benchmark tasks in a recipe: asked after training, in results, report and card."""

from pathlib import Path
from typing import Any

import pytest

from fallow.errors import UserError
from fallow.run.benchmarks import benchmark_columns, benchmark_notes, benchmark_values
from fallow.run.orchestrate import run_recipe
from fallow.run.recipe import Recipe, load
from tests.evaluate.local_task import write_tasks
from tests.run.tiny import results, write_recipe

BENCHMARKS = {
    "asked": ["pets", "boolq"],
    "tasks": {
        "pets": {"shots": 0, "num": 20, "metrics": {"acc": 0.25}, "stderr": {}, "metric": "acc", "value": 0.25},
        "cats": {"shots": 0, "num": 10, "metrics": {"acc": 0.1}, "stderr": {}, "metric": "acc", "value": 0.1},
        "boolq": {"shots": 32, "num": 9, "metrics": {"acc": 0.5}, "stderr": {}, "metric": "acc", "value": 0.5},
    },
    "harness": "lm-eval 0",
    "preset": "sheared-llama",
    "average": 0.375,
}


def test_a_column_for_each_task_that_was_asked() -> None:
    records: dict[str, Any] = {"a": {"scores": {}}, "b": {"scores": {"benchmarks": BENCHMARKS}}}
    columns = list(benchmark_columns(records))
    assert [c["title"] for c in columns] == ["pets", "boolq (32)", "average of sheared-llama"]
    values = benchmark_values(records["b"]["scores"])
    assert [values[c["key"]] for c in columns] == [0.25, 0.5, 0.375]
    assert benchmark_values({}) == {}
    [note] = benchmark_notes("dense", records["b"]["scores"])
    assert note == "dense: tasks by lm-eval 0, shots in parentheses: pets by acc, boolq by acc."


def recipe(folder: Path, output: Path, tasks: dict[str, Any]) -> Recipe:
    path = write_recipe(folder)
    changes: list[tuple[str, Any]] = [
        ("output", str(output)),
        ("stages.all.budget", {"steps": 2}),
        ("stages.pretrain.schedule", {}),
        ("stages.tune.evaluate", {"decoding": {"max_new_tokens": 2, "max_contexts": 2}, "tasks": tasks}),
    ]
    return load(path, changes)


def test_a_stage_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra eval)")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    asked = recipe(tmp_path, tmp_path / "run", {"names": ["pets"], "path": str(write_tasks(folder)), "limit": 6})
    run_recipe(asked, json=True)
    found = results(tmp_path / "run")
    scores = found["stages"]["tune"]["scores"]["benchmarks"]
    assert scores["tasks"]["pets"]["num"] == 12 and "benchmarks" not in found["stages"]["pretrain"]["scores"]
    [row] = found["rows"]
    assert row["benchmarks/pets"] == scores["tasks"]["pets"]["value"]
    assert "pets" in [column["title"] for column in found["columns"]]
    assert any("tasks by lm-eval" in note and "the first 6 questions" in note for note in found["notes"])
    card = (tmp_path / "run/tune/model/README.md").read_text()
    assert "pets acc, 0 shots" in card and "(12 questions)" in card
    assert ">pets" in (tmp_path / "run/report.html").read_text()


def test_a_task_that_does_not_exist_is_refused_before_training(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra eval)")
    with pytest.raises(UserError, match=r"there is no task hellaswagg"):
        run_recipe(recipe(tmp_path, tmp_path / "run", {"names": ["hellaswagg"]}), json=True)
    assert not (tmp_path / "run").exists()
