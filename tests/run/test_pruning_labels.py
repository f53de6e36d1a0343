"""Classifiers of BERT's family are pruned by recipes, too: their heads stay, smaller folders load again."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import fallow
from fallow.cli.main import main
from fallow.pruning.attention import attentions
from tests.run.test_classification import BERT, recipe_file
from tests.run.tiny import results

DSEE = {"name": "dsee", "rank": 2, "entries": 3}


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_classifier_is_tuned_cut_and_tuned_on(family: str, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {**BERT, "model_type": family, "max_position_embeddings": 36}
    file = recipe_file(tmp_path, model={"config": sizes}, method=DSEE, budget={"steps": 12})
    plain = yaml.safe_load(file.read_text())
    tune = plain["stages"][0]
    prune = {k: tune[k] for k in ("method", "dataset", "batch")} | {"model": {"stage": "tune"}, "name": "prune"}
    plain["stages"] += [
        {**prune, "prune": {"kind": "weights", "ratio": 0.5}},
        {**tune, "name": "retune", "model": {"stage": "prune"}},
        {**tune, "name": "heads", "model": {"stage": "tune"}, "prune": {"kind": "heads", "num": 1}},
    ]
    file.write_text(yaml.safe_dump(plain))
    assert main(["run", str(file), "--output", str(tmp_path / "run"), "--json"]) == 0
    found = results(tmp_path / "run")
    cut = fallow.load(tmp_path / "run" / "heads" / "model")
    assert [a.num_units for a in attentions(cut)] == [1, 1] and type(cut).__name__.endswith("SequenceClassification")
    half = fallow.load(tmp_path / "run" / "retune" / "model")
    weight = half.get_submodule(f"{family}.encoder.layer.0.intermediate.dense").weight
    assert 0.2 < float((weight == 0).float().mean()) < 0.8 and not weight.requires_grad
    assert half.classifier.state_dict() and found["stages"]["retune"]["training"]["pruned"][
        "sparsity"
    ] == pytest.approx(0.5, abs=1e-3)
    assert found["stages"]["heads"]["training"]["pruned"]["linear_flops_left"] < 0.9
