"""Prune, then continue: recipes with a method that leaves a smaller model, and with models that are cut first."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from fallow.errors import UserError
from fallow.run.configs import config_of
from fallow.run.estimate import Question, estimate_recipe
from fallow.run.orchestrate import run_recipe
from fallow.run.output import Output
from fallow.run.recipe import Recipe, load
from fallow.shearing.kept import KEPT_FILE, Kept
from fallow.train import Mesh, storage
from fallow.train.callbacks import Console
from tests.conformance.sheared import recipe_at as following
from tests.conformance.sheared import write_text
from tests.run.tiny import write_recipe

RECIPE = """
name: sheared
seed: 1
device: cpu
tokenizer: {{vocab_size: 300}}
datasets:
  text: {{kind: text, sources: [{{path: "{folder}/text.jsonl"}}], context: 16, valid_share: 0.2}}
x-common: &common
  dataset: text
  batch: {{sequences: 8, micro: 4}}
  optimizer: {{lr: 1e-3}}
  validation: {{every: {{steps: 4}}}}
  budget: {{steps: 8}}
x-target: &target {{layers: 1, hidden: 16, heads: 2, inner: 24}}
stages:
  - <<: *common
    name: pretrain
    model:
      config: {{model_type: llama, num_hidden_layers: 2, hidden_size: 32, intermediate_size: 48, num_attention_heads: 4,
               num_key_value_heads: 2, max_position_embeddings: 64}}
    method: {{name: dense}}
  - <<: *common
    name: prune
    model: {{stage: pretrain}}
    method: {{name: shear, to: *target, warmup: 4, preset: released}}
    checkpoint: {{every: {{steps: 3}}}}
  - <<: *common
    name: continue
    model: {{stage: prune}}
    method: {{name: sparse, sparsity: 0.5}}
  - <<: *common
    name: by-score
    model: {{stage: pretrain, cut: {{to: *target, by: taylor, sequences: 6}}}}
    method: {{name: dense}}
"""


def recipe_at(folder: Path, old: str = "", new: str = "") -> Path:
    write_recipe(folder)
    text = RECIPE.format(folder=folder)
    assert old in text
    path = folder / "sheared.yaml"
    path.write_text(text.replace(old, new) if old else text)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Recipe]:
    folder = tmp_path_factory.mktemp("sheared")
    recipe = load(recipe_at(folder), [("output", str(folder / "out"))])
    return folder / "out", run_recipe(recipe, json=True), recipe


@pytest.mark.parametrize("name", ["prune", "continue", "by-score"])
def test_models_have_the_target_shape(name: str, finished: tuple[Path, dict[str, Any], Recipe]) -> None:
    output, _, _ = finished
    config = AutoModelForCausalLM.from_pretrained(output / name / "model").config
    sizes = config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size
    assert sizes == (1, 16, 2, 24)
    assert (config.num_key_value_heads, config.head_dim) == (2, 8)


def test_units_are_written_and_repeat_the_cut(finished: tuple[Path, dict[str, Any], Recipe]) -> None:
    output, _, _ = finished
    for name in ("prune", "by-score"):
        assert Kept.load(output / name / "model" / KEPT_FILE).target.hidden == 16
    assert not (output / "continue" / "model" / KEPT_FILE).exists()


def test_the_log_of_the_gates(finished: tuple[Path, dict[str, Any], Recipe]) -> None:
    output, results, _ = finished
    lines = [json.loads(line) for line in (output / "prune" / "method.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert lines[-1]["axes"]["hidden"]["target"] == 16
    assert lines[1]["axes"]["hidden"]["by_now"] == 24
    told = results["stages"]["prune"]["training"]["method"]
    assert told == {key: value for key, value in lines[-1].items() if key != "tokens"}
    assert told["verdict"].startswith("not converged, because")
    (shown,) = results["gates"]
    assert (shown["stage"], shown["verdict"], shown["converged"]) == ("prune", told["verdict"], False)
    assert [row["axis"] for row in shown["rows"]] == ["layers", "hidden", "heads", "inner"]
    assert f"prune: the gates have {told['verdict']}." in results["notes"]
    page = (output / "report.html").read_text()
    assert "They were cut to the target by rank." in page and "multiplier" in page
    assert not (output / "continue" / "method.jsonl").exists()
    assert not (output / "by-score" / "method.jsonl").exists()


def test_table_and_card_tell_of_the_model_that_is_left(finished: tuple[Path, dict[str, Any], Recipe]) -> None:
    output, results, _ = finished
    rows = {row["arm"]: row for row in results["rows"]}
    assert rows.keys() == {"continue", "by-score"}
    small = AutoModelForCausalLM.from_pretrained(output / "by-score" / "model").num_parameters()
    counts = {name: stage["training"]["counts"] for name, stage in results["stages"].items()}
    assert counts["by-score"]["positions"] == counts["continue"]["positions"] == small < counts["pretrain"]["positions"]
    assert {name: row["nonzero"] for name, row in rows.items()} == {name: counts[name]["nonzero"] for name in rows}
    assert rows["continue"]["sparsity"] == 0.5  # of the stage that goes on
    assert results["stages"]["prune"]["training"]["parameters_left"] == small
    assert "parameters_left" not in results["stages"]["continue"]["training"]
    card = (output / "prune" / "model" / "README.md").read_text()
    assert f"| parameters | {small:,} |" in card and "| the gates have | not converged, because" in card
    assert "| to | layers 1, hidden 16, heads 2, inner 24 |" in card
    assert "density" not in card


def test_what_is_estimated_is_what_was_trained(finished: tuple[Path, dict[str, Any], Recipe]) -> None:
    _, results, recipe = finished
    for cost in estimate_recipe(recipe, Question(epoch_tokens={})).stages:
        counted = results["stages"][cost.stage.name]["training"]["counts"]["positions"]
        gates = 2 + 32 + 2 * 4 + 2 * 48 + 2 * 4 if cost.stage.name == "prune" else 0
        assert cost.cost.parameters.positions == counted
        assert cost.cost.disk.model == 4 * (counted - gates)
    assert config_of(recipe, recipe.stage("continue"))["hidden_size"] == 16


def last_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """All that is in it but the time: numbers, and tensors."""
    path = max((folder / "checkpoints").iterdir())
    state = storage.read_json(path / "state.json")
    assert path.name == "step-000024" and state.pop("seconds") > 0 and state["result"].pop("seconds") > 0
    del state["result"]["tokens_per_second"]
    tensors = {name: torch.empty(size, dtype=kind) for name, (size, kind) in storage.describe_tensors(path).items()}
    storage.read_tensors(path, tensors, Mesh())
    return state, tensors


def test_a_run_that_is_broken_off_comes_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates, multipliers, their moments, shares of the mixture, cursors, generators, and what is written of them."""

    def crash(self: Any, loop: Any, record: Any) -> None:
        if record.step == 18 and not crashed:
            crashed.append(True)
            raise InterruptedError

    crashed = [True]
    monkeypatch.setattr(Console, "on_step", crash)
    monkeypatch.setattr(Output, "tidy", lambda self, folder: None)  # keeps the checkpoints
    write_text(tmp_path)
    straight, broken = (following(tmp_path, name) for name in ("straight", "broken"))
    run_recipe(straight, only=["prune"], json=True)
    crashed.clear()
    with pytest.raises(InterruptedError):
        run_recipe(broken, only=["prune"], json=True)
    assert (tmp_path / "broken/prune/checkpoints/step-000015").is_dir()
    run_recipe(broken, only=["prune"], json=True)
    one, other = (last_checkpoint(tmp_path / name / "prune") for name in ("straight", "broken"))
    assert one[0] == other[0]
    assert set(one[0]["mixture"]["shares"]) == set(one[0]["mixture"]["sources"]) == {"a", "b"} and one[0]["generators"]
    assert one[1].keys() == other[1].keys()
    assert {"gates.log_alpha.inner", "gates.linear.hidden"} <= {name.removeprefix("model.") for name in one[1]}
    for name, tensor in one[1].items():
        assert torch.equal(tensor, other[1][name]), name
    for name in ("model/model.safetensors", f"model/{KEPT_FILE}", "method.jsonl", "log.jsonl"):
        assert (tmp_path / "straight/prune" / name).read_bytes() == (tmp_path / "broken/prune" / name).read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("inner: 24", "inner: 99", "stage prune: .*inner is 99, but the source has 48"),
        ("layers: 1,", "layer: 1,", r"unknown key stages.1.method.to.layer .*Did you mean stages.1.method.to.layers"),
        ("by: taylor", "by: tylor", "stages.3.model.cut.by .*Did you mean taylor"),
        ("sequences: 6}", "sequences: 0}", "stages.3.model.cut.sequences.* is 0"),
        ("{stage: prune}", "{stage: prune, cut: {to: {layers: 5}}}", "layers is 5, but the source has 1"),
        ("model_type: llama", "model_type: phi", "stage prune: .*phi cannot be sheared"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_made(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run_recipe(load(recipe_at(tmp_path, old, new), [("output", str(tmp_path / "out"))]), json=True)
    assert not (tmp_path / "out" / "pretrain").exists()


def test_a_new_model_is_not_cut(tmp_path: Path) -> None:
    path = recipe_at(
        tmp_path, "max_position_embeddings: 64}", "max_position_embeddings: 64}\n      cut: {to: {layers: 1}}"
    )
    with pytest.raises(UserError, match=r"model.cut .* has no effect on a new model"):
        load(path)


CONVERGES = """{name: shear, to: *target, warmup: 4, preset: reachable, until: converged}
    budget: {steps: 200}
  - <<: *common
    name: go-on
    model: {stage: prune, moments: true}
    method: {name: dense}"""


def cut_by_hand(full: dict[str, torch.Tensor], kept: Kept, power: int) -> dict[str, torch.Tensor]:
    """Moments of a llama with heads of size 8, tensor by tensor, divided by the gates that the weights took up."""

    def parts(numbers: torch.Tensor) -> torch.Tensor:
        return (numbers[:, None] * 8 + torch.arange(8)).flatten()

    channels, gates_d = kept.hidden_d, kept.hidden_gates_d**power
    found = {
        "model.embed_tokens.weight": full["model.embed_tokens.weight"][:, channels],
        "lm_head.weight": full["lm_head.weight"][:, channels],
        "model.norm.weight": full["model.norm.weight"][channels] / gates_d,
    }
    for new, old in enumerate(kept.layers):
        layer = {k.partition(f"layers.{old}.")[2]: t for k, t in full.items() if f"layers.{old}." in k}
        queries, keys, units = parts(kept.heads_lh[new]), parts(kept.kv_heads_lk[new]), kept.inner_lm[new]
        written = gates_d[:, None] * kept.layer_gates_l[new] ** power
        heads = kept.head_gates_lh[new].repeat_interleave(8) ** power
        layer = {
            "self_attn.q_proj.weight": layer["self_attn.q_proj.weight"][queries][:, channels],
            "self_attn.k_proj.weight": layer["self_attn.k_proj.weight"][keys][:, channels],
            "self_attn.v_proj.weight": layer["self_attn.v_proj.weight"][keys][:, channels],
            "self_attn.o_proj.weight": layer["self_attn.o_proj.weight"][channels][:, queries] / written / heads,
            "mlp.gate_proj.weight": layer["mlp.gate_proj.weight"][units][:, channels],
            "mlp.up_proj.weight": layer["mlp.up_proj.weight"][units][:, channels],
            "mlp.down_proj.weight": layer["mlp.down_proj.weight"][channels][:, units]
            / written
            / kept.inner_gates_lm[new] ** power,
            "input_layernorm.weight": layer["input_layernorm.weight"][channels] / gates_d,
            "post_attention_layernorm.weight": layer["post_attention_layernorm.weight"][channels] / gates_d,
        }
        found |= {f"model.layers.{new}.{key}": moment for key, moment in layer.items()}
    return found


def test_converged_gates_are_cut_and_the_optimizer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fallow.run.moments import FILE
    from fallow.train.loop import Loop

    seen, before, after = {}, {}, {}
    fit, step = Loop.fit, Loop.step

    def moments_of(loop: Loop) -> dict[str, dict[str, torch.Tensor]]:
        state = {
            name: loop.optimizer.state[p] for name, p in loop.model.named_parameters() if p in loop.optimizer.state
        }
        return {key: {name: of[key].clone() for name, of in state.items()} for key in ("exp_avg", "exp_avg_sq", "step")}

    def spy(self: Loop) -> Any:
        found = fit(self)
        before[self.folder.name] = moments_of(self)
        steps = {float(state["step"]) for state in self.optimizer.state.values()}
        seen[self.folder.name] = (found.steps, found.stopped, max(steps))
        return found

    def first(self: Loop) -> Any:
        if self.num_steps_done == 0:
            after[self.folder.name] = moments_of(self)
        return step(self)

    monkeypatch.setattr(Loop, "fit", spy)
    monkeypatch.setattr(Loop, "step", first)
    # a size limit that noise cannot miss: what is tested is that the stage ends, and with what the next one begins
    monkeypatch.setattr("fallow.shearing.diagnostics.SHARE", 1.0)
    monkeypatch.setattr("fallow.shearing.diagnostics.MARGIN", -1.0)
    monkeypatch.setattr("fallow.shearing.diagnostics.SIZE", 0.5)
    path = recipe_at(tmp_path, "{name: shear, to: *target, warmup: 4, preset: released}", CONVERGES)
    results = run_recipe(load(path, [("output", str(tmp_path / "out"))]), only=["go-on"], json=True)
    pruned = seen["prune"][0]
    assert pruned < 200 and pruned % 10 == 0 and seen["prune"][1] == "early"
    assert results["stages"]["prune"]["training"]["method"]["converged"]
    assert seen["go-on"] == (8, "budget", pruned + 8)
    assert (tmp_path / "out" / "prune" / FILE).is_file()
    assert all(not of for of in after["pretrain"].values()) and not after["prune"]["step"]  # these begin with nothing
    kept = Kept.load(tmp_path / "out" / "prune" / "model" / KEPT_FILE)
    assert len(kept.layers) == 1 and kept.kv_heads_lk.shape == (1, 2) and kept.heads_lh.shape == (1, 2)
    assert {float(steps) for steps in after["go-on"]["step"].values()} == {pruned}
    for key, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
        expected = cut_by_hand(before["prune"][key], kept, power)
        assert after["go-on"][key].keys() == expected.keys()
        for name, moment in expected.items():
            assert float(moment.abs().max()) > 0
            torch.testing.assert_close(after["go-on"][key][name], moment, rtol=1e-5, atol=0, msg=f"{key} of {name}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model: {stage: prune}", "model: {stage: prune, moments: true}", "trains by method sparse"),
        (
            "model: {stage: pretrain}",
            "model: {stage: pretrain, moments: true, cut: {to: *target}}",
            "belong to the whole",
        ),
        ("warmup: 4,", "warmup: 4, until: convergd,", "until.*Did you mean converged"),
    ],
)
def test_moments_that_cannot_be_handed_on(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load(recipe_at(tmp_path, old, new))
