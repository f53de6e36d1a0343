"""A recipe that trains a classifier: it learns, resumes, shares work, and says what it measured."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fallow.data.formats.glue import read_glue
from fallow.data.task import TASKS
from fallow.errors import UserError
from fallow.run.heads import LabelHead
from fallow.run.orchestrate import run_recipe
from fallow.run.recipe import Recipe, load
from tests.data.labelled import vocabulary, write_sst2
from tests.run.tiny import ROOT, environment, results, weights

BERT = {
    "model_type": "bert", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
    "max_position_embeddings": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def recipe_file(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    train, dev = write_sst2(folder / "train.tsv", 96), write_sst2(folder / "dev.tsv", 24, start=97)
    stage = {
        "name": "tune",
        "model": {"config": BERT},
        "method": {"name": "sparse", "sparsity": 0.5},
        "dataset": "mood",
        "budget": {"steps": 36},
        "batch": {"sequences": 8, "micro": 4},
        "optimizer": {"lr": 5e-3},
        "validation": {"every": {"steps": 6}, "keep": "best", "by": "score"},
        "checkpoint": {"every": {"steps": 5}},
        **changes,
    }
    plain = {
        "name": "mood",
        "seed": 1,
        "device": "cpu",
        "tokenizer": {"path": str(vocabulary(folder))},
        "datasets": {
            "mood": {
                "kind": "classification",
                "task": "sst2",
                "train": [str(train)],
                "valid": [str(dev)],
                "context": 16,
            }
        },
        "stages": [stage],
    }
    path = folder / "mood.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def recipe(folder: Path, output: Path, **changes: Any) -> Recipe:
    return load(recipe_file(folder, **changes), [("output", str(output))])


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calm")
    run_recipe(recipe(folder, folder / "run"), json=True)
    return folder / "run"


def test_it_learns_and_says_so(calm: Path) -> None:
    found = results(calm)
    [row] = found["rows"]
    assert row["accuracy"] == 1.0 and row["bleu"] is None and row["valid_loss"] is None
    assert row["sparsity"] == 0.5 and 1.5 < row["reduction"] == pytest.approx(row["ceiling"])
    assert "accuracy" in [column["key"] for column in found["columns"]]
    stage = found["stages"]["tune"]
    assert stage["scores"]["task"] == "sst2" and stage["scores"]["split"] == "validation"
    assert stage["scores"]["num_examples"] == 24 and stage["scores"]["score"] == stage["scores"]["accuracy"]
    assert stage["training"]["tokens"] == 36 * 8 and stage["training"]["counts_of_loss"] == "texts"
    assert stage["training"]["tokens_processed"] > 4 * stage["training"]["tokens"]
    lines = [json.loads(line) for line in (calm / "tune/log.jsonl").read_text().splitlines()]
    measured = [line["valid"] for line in lines if "valid" in line]
    best = max(found["score"] for found in measured)
    assert stage["training"]["validation"]["score"] == best == 1.0
    first = next(line["step"] for line in lines if "valid" in line and line["valid"]["score"] == best)
    assert stage["training"]["best_step"] == first  # an equal score later is no better
    assert "accuracy" in (calm / "report.html").read_text()
    card = (calm / "tune/model/README.md").read_text()
    assert "text-classification" in card and "sst2 accuracy (validation) | 1.0000" in card
    assert "AutoModelForSequenceClassification" in card and "texts with a loss | 288" in card


def test_the_folder_is_stock_and_its_snippet_runs(calm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = calm / "tune" / "model"
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert float((model.bert.encoder.layer[0].output.dense.weight == 0).float().mean()) == 0.5
    examples, _ = read_glue(calm.parent / "dev.tsv", TASKS["sst2"])
    with torch.no_grad():
        answers = [int(model(**tokenizer(e.first, return_tensors="pt")).logits.argmax()) for e in examples]
    assert answers == [e.label for e in examples]
    card = (folder / "README.md").read_text()
    monkeypatch.chdir(folder)
    exec(card.split("```python\n")[1].split("```")[0], {})


def test_broken_off_and_continued_is_undisturbed(calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LabelHead.validate
    calls = []

    def dies(*arguments: Any, **named: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("power cut")
        return whole(*arguments, **named)

    # the same files: the recipe's identity names them
    asked = load(calm.parent / "mood.yaml", [("output", str(tmp_path / "run"))])
    monkeypatch.setattr(LabelHead, "validate", dies)
    with pytest.raises(RuntimeError, match="power cut"):
        run_recipe(asked, json=True)
    monkeypatch.setattr(LabelHead, "validate", whole)
    run_recipe(asked, json=True)
    assert weights(tmp_path / "run", "tune") == weights(calm, "tune")
    assert (tmp_path / "run/tune/log.jsonl").read_bytes() == (calm / "tune/log.jsonl").read_bytes()


def test_two_processes_find_the_same(calm: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "fallow", "run", str(calm.parent / "mood.yaml"), "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    one, two = (results(path)["stages"]["tune"] for path in (calm, tmp_path / "run"))
    assert two["training"]["processes"] == 2
    assert two["scores"]["accuracy"] == one["scores"]["accuracy"]
    assert two["training"]["validation"]["loss"] == pytest.approx(one["training"]["validation"]["loss"], abs=1e-3)


def test_a_grid_is_decided_by_the_score(tmp_path: Path) -> None:
    # at the second rate nothing is learned in these few steps
    asked = recipe(
        tmp_path, tmp_path / "run", grid={"optimizer.lr": [1e-7, 5e-3]}, validation={"by": "score"},
        method={"name": "dense"}, budget={"steps": 30},
    )  # fmt: skip
    found = run_recipe(asked, json=True)
    grid = found["stages"]["tune"]["grid"]
    assert grid["chosen"] == 1 and grid["tried"][1]["score"] > grid["tried"][0]["score"]
    assert any("settings chosen by validation score" in note for note in found["notes"])


def test_a_dry_run_is_short(tmp_path: Path) -> None:
    found = run_recipe(recipe(tmp_path, tmp_path / "run"), dry_run=True)
    assert found["stages"]["tune"]["training"]["steps"] == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": {"by": "score"}}, r"by .*has no effect without keep: best, patience or a grid"),
        ({"validation": {"by": "accuracy", "every": {"steps": 1}}}, "validation.by"),
        ({"evaluate": {"decoding": {"num_beams": 4}}}, "has no effect on mood, which is classification"),
        ({"model": {"config": {**BERT, "max_position_embeddings": 8}}}, r"context .*is 16, but the model"),
    ],
)
def test_settings_without_effect(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        recipe(tmp_path, tmp_path / "run", **changes)


def test_score_needs_labels(tmp_path: Path) -> None:
    plain = yaml.safe_load(recipe_file(tmp_path).read_text())
    plain["datasets"]["mood"] = {"kind": "pairs", "format": "jsonl", "train": "x", "valid": "x", "context": 16}
    path = tmp_path / "pairs.yaml"
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(UserError, match=r"validation.by .*is score, but mood is pairs"):
        load(path)


def test_positions_of_a_folder_are_known_before_the_first_step(calm: Path, tmp_path: Path) -> None:
    asked = recipe(tmp_path, tmp_path / "run", model={"path": str(calm / "tune/model")})
    longer = replace(asked, datasets={"mood": replace(asked.datasets["mood"], context=64)})
    with pytest.raises(UserError, match=r"stage tune: datasets.mood.context is 64, but the model has 32 positions"):
        run_recipe(longer, json=True)


def test_labels_of_the_configuration_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    asked = recipe(tmp_path, tmp_path / "run", model={"config": {**BERT, "num_labels": 2}})
    with pytest.raises(UserError, match=r"stage tune: model.config: num_labels has no effect"):
        run_recipe(asked, json=True)
    assert not os.path.lexists(tmp_path / "run")
