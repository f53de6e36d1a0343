"""Dense, LoRA and sparse fine-tuning after SLTrain by recipes, from a merged stage and from an unmerged folder.

Oracles: the losses at the start of tuning against those at the end of pre-training; ranks and supports of what changed.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import fallow
from fallow.errors import UserError
from fallow.run.orchestrate import run_recipe
from fallow.run.recipe import load
from tests.run.tiny import results, write_recipe

RECIPE = """
name: after
seed: 1
device: cpu
tokenizer: {{vocab_size: 300}}
datasets:
  text: {{kind: text, sources: [{{path: "{folder}/text.jsonl"}}], context: 16, valid_share: 0.2}}
x-tune: &tune
  model: {{stage: pretrain}}
  dataset: text
  budget: {{steps: 8}}
  batch: {{sequences: 8, micro: 8}}
  optimizer: {{lr: 1e-2}}
  validation: {{first: true}}
stages:
  - name: pretrain
    model:
      config: {{model_type: llama, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2, num_attention_heads: 2,
                max_position_embeddings: 16, tie_word_embeddings: false}}
    method: {{name: sltrain, rank: 4, density: 0.1}}
    dataset: text
    budget: {{steps: 20}}
    batch: {{sequences: 8, micro: 8}}
    optimizer: {{lr: 1e-2}}
  - {{<<: *tune, name: dense, method: {{name: dense}}}}
  - {{<<: *tune, name: lora, method: {{name: lora, rank: 2, alpha: 2, modules: []}}}}
  - {{<<: *tune, name: sparse, method: {{name: sltrain, rank: 0, density: 0.05, base: frozen}}}}
  - {{<<: *tune, name: both, method: {{name: sltrain, rank: 2, density: 0.05, base: frozen}}}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("after")
    write_recipe(folder)  # for its text
    (folder / "after.yaml").write_text(RECIPE.format(folder=folder))
    run_recipe(load(str(folder / "after.yaml"), [("output", str(folder / "run"))]), json=True)
    return folder / "run"


def matrices(run: Path, stage: str) -> dict[str, Tensor]:
    weights = load_file(str(run / stage / "model" / "model.safetensors"))
    return {name: weight.double() for name, weight in weights.items() if "_proj" in name}


def first_loss(run: Path, stage: str) -> float:
    lines = [json.loads(line) for line in (run / stage / "log.jsonl").read_text().splitlines()]
    return float(next(line["valid"]["loss"] for line in lines if "valid" in line))


@pytest.mark.parametrize("stage", ["dense", "lora", "sparse", "both"])
def test_tuning_begins_where_pretraining_ended_and_goes_on(finished: Path, stage: str) -> None:
    found = results(finished)["stages"]
    before, after = found["pretrain"]["scores"]["loss"], found[stage]["scores"]["loss"]
    assert first_loss(finished, stage) == pytest.approx(before, rel=1e-5)
    assert after < before


def test_what_changed_is_what_the_method_allows(finished: Path) -> None:
    before = matrices(finished, "pretrain")
    assert len(before) == 14
    for name, weight in before.items():
        changed = {stage: matrices(finished, stage)[name] - weight for stage in ("dense", "lora", "sparse", "both")}
        assert changed["dense"].count_nonzero() > 0.9 * weight.numel()
        assert torch.linalg.matrix_rank(changed["lora"], atol=1e-5) == 2
        entries = round(0.05 * weight.numel())
        assert 0.8 * entries < changed["sparse"].count_nonzero() <= entries
        assert torch.linalg.matrix_rank(changed["both"], atol=1e-5) > 2


def test_the_sparse_update_lies_on_a_support_of_its_own(finished: Path) -> None:
    before, after = matrices(finished, "pretrain"), matrices(finished, "sparse")
    model: Any = fallow.load(finished / "pretrain/model")
    fallow.convert(model, "sltrain", rank=0, density=0.05, base="frozen", seed=1)
    for name, weight in before.items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        places = (after[name] - weight).flatten().nonzero().flatten()
        assert set(places.tolist()) <= set(layer.support.flat().tolist())


@pytest.fixture
def unmerged(finished: Path, tmp_path: Path) -> Path:
    """A model of SLTrain as `fallow.save` leaves it, and its merged twin beside it."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(finished / "pretrain/model")
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    fallow.convert(model, "sltrain", rank=4, density=0.1, seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    fallow.save(model, tmp_path / "unmerged")
    model = fallow.merge(model)
    fallow.save(model, tmp_path / "merged")
    return tmp_path


@pytest.mark.parametrize(
    "method", [{"name": "dense"}, {"name": "lora", "rank": 2, "alpha": 2, "modules": []}], ids=lambda m: m["name"]
)
def test_an_unmerged_folder_is_as_good_a_beginning(finished: Path, unmerged: Path, method: dict[str, Any]) -> None:
    losses = []
    for kind in ("unmerged", "merged"):
        changes: list[tuple[str, Any]] = [
            ("output", str(unmerged / f"run-{kind}")),
            ("stages.dense.model", {"path": str(unmerged / kind)}),
            ("stages.dense.method", method),
            ("stages.dense.budget", {"steps": 3}),
        ]
        recipe = load(str(finished.parent / "after.yaml"), changes)
        found = run_recipe(recipe, only=["dense"], json=True)
        losses.append((first_loss(unmerged / f"run-{kind}", "dense"), found["stages"]["dense"]["scores"]["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][1] < losses[0][0]


def test_what_would_lose_the_weights_is_refused(finished: Path) -> None:
    changes: list[tuple[str, Any]] = [("output", str(finished.parent / "lost")), ("stages.sparse.method.base", "none")]
    with pytest.raises(UserError, match="base: frozen"):
        run_recipe(load(str(finished.parent / "after.yaml"), changes), only=["sparse"], dry_run=True, json=True)
