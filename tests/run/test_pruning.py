"""Recipes that tune, prune and tune on: what is handed from stage to stage, what is kept, what is told."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import fallow
from fallow.cli.main import main
from fallow.errors import UserError
from fallow.methods import DSEE, Dense
from fallow.methods.base import reparam_layers
from fallow.pruning import Weights
from fallow.pruning.matrices import in_blocks, matrices
from fallow.run.heads import VocabularyHead
from fallow.run.recipe import load
from fallow.run.sources import Origin, initial_model
from fallow.supports.file import save_supports
from tests.run.tiny import write_recipe

STAGES = """
name: prune
seed: 1
device: cpu
tokenizer: {{vocab_size: 300}}
datasets:
  text: {{kind: text, sources: [{{path: "{folder}/text.jsonl"}}], context: 16, valid_share: 0.2}}
x-tune: &tune
  dataset: text
  budget: {{steps: 6}}
  batch: {{sequences: 4, micro: 4}}
  optimizer: {{lr: 1e-2}}
stages:
  - <<: *tune
    name: pretrain
    model: {{config: {{model_type: gpt2, n_layer: 2, n_embd: 32, n_head: 4, n_positions: 64}}}}
    method: {{name: dense}}
  - {{<<: *tune, name: tune, model: {{stage: pretrain}}, method: {{name: dsee, rank: 2, entries: 3}}}}
  - name: prune
    model: {{stage: tune}}
    method: {{name: dsee, rank: 2, entries: 3}}
    prune: {{kind: weights, ratio: 0.5}}
    dataset: text
    batch: {{sequences: 4, micro: 4}}
  - {{<<: *tune, name: retune, model: {{stage: prune}}, method: {{name: dsee, rank: 2, entries: 3, values: frozen}}}}
  - <<: *tune
    name: heads
    label: two heads fewer
    model: {{stage: tune}}
    method: {{name: dsee, rank: 2, entries: 3, support: gradient}}
    prune: {{kind: heads, num: 2}}
  - <<: *tune
    name: by-gradient
    model: {{stage: pretrain}}
    method: {{name: dsee, rank: 2, entries: 3, support: gradient}}
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("prune")
    write_recipe(folder)
    (folder / "prune.yaml").write_text(STAGES.format(folder=folder))
    assert main(["run", str(folder / "prune.yaml"), "--output", str(folder / "run"), "--json"]) == 0
    return folder / "run", json.loads((folder / "run" / "results.json").read_text())


def test_supports_that_were_altered_without_effect_are_written_again(
    done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run, _ = done
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "by-gradient" / "supports.safetensors"
    before = path.read_bytes()
    with safe_open(path, framework="pt") as file:
        tensors, known = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, path, metadata={**known, "more": "that nobody reads"})
    (copy / "by-gradient" / "stage.json").unlink()
    assert main(["run", str(run.parent / "prune.yaml"), "--output", str(copy), "--json"]) == 0
    assert path.read_bytes() == before


def test_the_update_is_handed_on_and_the_zeros_stay(done: tuple[Path, dict[str, Any]]) -> None:
    run, _ = done
    tuned, pruned, retuned = (
        fallow.load(path) for path in (run / "tune" / "unmerged", run / "prune" / "model", run / "retune" / "model")
    )
    terms = {n: p for n, p in tuned.named_parameters() if n.endswith(("low_rank_a", "low_rank_b", "values"))}
    assert all(torch.equal(p, pruned.get_parameter(name)) for name, p in terms.items())
    for name, parameter in terms.items():
        same = torch.equal(parameter, retuned.get_parameter(name))
        assert same == name.endswith("values"), name  # S is frozen in retraining, the factors are not
    zeros = {m.label: m.weight() == 0 for m in matrices(pruned) if in_blocks(m.name)}
    assert sum(int(z.sum()) for z in zeros.values()) == sum(z.numel() for z in zeros.values()) // 2
    for matrix in matrices(retuned):
        if matrix.label in zeros:
            assert torch.equal(matrix.weight() == 0, zeros[matrix.label])
    supports = [{n: la.support.digest() for n, la in reparam_layers(m).items()} for m in (tuned, pruned, retuned)]
    assert supports[0] == supports[1] == supports[2]
    assert not (run / "prune" / "log.jsonl").exists() and (run / "retune" / "log.jsonl").exists()


def test_an_unpruned_stage_ends_merged_and_apart(done: tuple[Path, dict[str, Any]]) -> None:
    import transformers

    run, _ = done
    merged = transformers.AutoModelForCausalLM.from_pretrained(run / "tune" / "model").eval()
    apart = fallow.load(run / "tune" / "unmerged")
    ids = torch.arange(10)[None]
    torch.testing.assert_close(merged(input_ids=ids).logits, apart(input_ids=ids).logits, rtol=0, atol=1e-5)
    assert (run / "tune" / "supports.safetensors").is_file()
    assert not (run / "prune" / "unmerged").exists()


def test_heads_are_cut_before_they_are_tuned_on(done: tuple[Path, dict[str, Any]]) -> None:
    run, results = done
    model = fallow.load(run / "heads" / "model")
    assert model.transformer.h[0].attn.c_attn.nf == 3 * 16
    assert fallow.load(run / "heads" / "unmerged").transformer.h[0].attn.c_attn.low_rank_b.shape == (2 * 16, 2)
    report = results["stages"]["heads"]["training"]["pruned"]
    assert [len(stay) for stay in report["heads"].values()] == [2, 2]


def test_what_is_told(done: tuple[Path, dict[str, Any]]) -> None:
    _, results = done
    rows = {row["arm"]: row for row in results["rows"]}
    # what others prune is a row, what is tuned on is none
    assert list(rows) == ["tune", "retune", "two heads fewer", "by-gradient"]
    assert rows["tune"]["pruned"] is None and rows["retune"]["pruned"] == pytest.approx(0.5, abs=1e-3)
    factors, values = 2 * 2 * 2 * (32 + 32), 2 * 2 * 3
    assert rows["tune"]["trainable"] == factors + values and rows["retune"]["trainable"] == factors
    stages = results["stages"]
    assert stages["prune"]["training"]["steps"] == stages["prune"]["training"]["flops"] == 0
    full, frozen = stages["pretrain"]["training"], stages["tune"]["training"]
    assert frozen["flops"] < 0.75 * full["flops"] == 0.75 * frozen["flops_dense"]
    assert stages["retune"]["training"]["reduction"] > 1.3
    handed_on = stages["retune"]["training"]["pruned"]
    assert handed_on["sparsity"] == stages["prune"]["training"]["pruned"]["sparsity"]
    assert handed_on["trainable"] == factors and rows["retune"]["nonzero"] < rows["tune"]["stored"]
    assert rows["retune"]["ceiling"] is None and 0.5 < rows["retune"]["linear_flops_left"] < 0.6
    card = (done[0] / "retune" / "model" / "README.md").read_text()
    assert "| pruned of the blocks' linear layers | 0.5000 |" in card and "with the update | 52" in card
    assert {"pruned", "trainable"} <= {column["key"] for column in results["columns"]}
    left = stages["prune"]["training"]["pruned"]
    assert left["nonzero"] == stages["prune"]["training"]["counts"]["apart"]
    assert left["conventions"]["sparsity"].startswith("share of the entries of the blocks' linear layers")


def begun(run: Path, origin: Path, **changes: Any) -> torch.nn.Module:
    """The first model of the stage `retune` with other settings, from another folder."""
    recipe = load(run.parent / "prune.yaml")
    stage = dataclasses.replace(recipe.stage("retune"), **changes)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run / "tokenizer")
    unmerged = origin.parent / "unmerged"
    where = Origin(model=origin, unmerged=unmerged if unmerged.exists() else None)
    return initial_model(stage, where, tokenizer, VocabularyHead())


def test_another_method_would_fill_the_zeros_and_is_refused(done: tuple[Path, dict[str, Any]]) -> None:
    run, _ = done
    for method in (DSEE(rank=4, entries=3), DSEE(rank=2, entries=4), Dense()):
        with pytest.raises(UserError, match="stage retune cannot go on .* pruned weights would be filled"):
            begun(run, run / "prune" / "model", method=method)
    with pytest.raises(UserError, match="it would be pruned by an update that is then merged into it"):
        begun(run, run / "tune" / "model", method=DSEE(rank=4), prune=Weights(ratio=0.5))
    merged = begun(run, run / "tune" / "model", method=DSEE(rank=4))
    assert not merged.transformer.h[0].attn.c_attn.low_rank_b.any()  # a new update on the merged model


def test_pruned_weights_are_not_trained(done: tuple[Path, dict[str, Any]]) -> None:
    run, _ = done
    by_weight = Weights(ratio=0.5, score="weight")
    with pytest.raises(UserError, match="method dense trains .*so the weights that prune removes would wake up"):
        begun(run, run / "pretrain" / "model", method=Dense(), prune=by_weight)
    model = begun(run, run / "pretrain" / "model", method=DSEE(rank=2), prune=by_weight)
    assert float((model.transformer.h[0].mlp.c_fc.weight == 0).float().mean()) > 0.3
    with pytest.raises(UserError, match="stage retune: prune: score is update, but the model has no update to go by"):
        begun(run, run / "pretrain" / "model", prune=Weights(ratio=0.5))


def test_supports_that_a_stage_has_chosen_are_kept(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """As on another machine, where rounding would choose others: the file of the stage decides."""
    run, _ = done
    chosen = {n: la.support for n, la in reparam_layers(fallow.load(run / "by-gradient" / "unmerged")).items()}
    save_supports(tmp_path / "supports.safetensors", chosen)
    recipe = load(run.parent / "prune.yaml")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run / "tokenizer")
    origin = Origin(model=run / "pretrain" / "model", supports=tmp_path / "supports.safetensors")
    model = initial_model(recipe.stage("tune"), origin, tokenizer, VocabularyHead())
    assert {n: la.support.digest() for n, la in reparam_layers(model).items()} == {
        name: support.digest() for name, support in chosen.items()
    }
    whole = (tmp_path / "supports.safetensors").read_bytes()
    (tmp_path / "supports.safetensors").write_bytes(whole[:-4] + b"\x07\x00\x00\x00")
    with pytest.raises(UserError, match=r"supports.safetensors is damaged: .* Delete it"):
        initial_model(recipe.stage("tune"), origin, tokenizer, VocabularyHead())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: weights, ratio: 0.5", "kind: weights, ratio: 50", "stages.2.prune.ratio .*is 50.* 0.5"),
        ("    prune: {kind: weights, ratio: 0.5}\n", "", "stages.2.budget is missing"),
        ("ratio: 0.5}\n", "ratio: 0.5}\n    label_smoothing: 0.1\n", "stages.2.label_smoothing .*has no effect"),
        ("kind: heads", "kind: head", "Did you mean"),
        ("  optimizer: {lr: 1e-2}\n", "", "stages.0.optimizer is missing"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = STAGES.format(folder=tmp_path)
    assert old in text
    (tmp_path / "bad.yaml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        load(tmp_path / "bad.yaml")


def test_more_heads_than_there_are_is_known_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_recipe(tmp_path)
    (tmp_path / "a.yaml").write_text(STAGES.format(folder=tmp_path).replace("num: 2", "num: 4"))
    assert main(["run", str(tmp_path / "a.yaml"), "--output", str(tmp_path / "a")]) == 2
    assert "stage heads: num is 4, but transformer.h.0.attn has 4 heads" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
