"""The recipes of shearing against what is published: shapes, tokens, what validation costs; three stages in each."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fallow.data.settings import PairData, TextData
from fallow.errors import UserError
from fallow.methods.shear import Shear
from fallow.run.configs import config_of
from fallow.run.estimate import Question, estimate_recipe
from fallow.run.looking import batches_of, cost_of_looking, sequences_of, told_cost
from fallow.run.mixing import Mixing
from fallow.run.recipe import Recipe, load
from fallow.run.rehearsal import rehearsal_of
from fallow.train.plan import Plan

LLAMA2 = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
          "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096}  # fmt: skip
LLAMA3 = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
          "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
          "max_position_embeddings": 131072}  # fmt: skip
NEOX = {"model_type": "gpt_neox", "vocab_size": 50304, "max_position_embeddings": 2048}
PYTHIA = {
    "410m": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "160m": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
PUBLISHED = {  # source, parameters of the target: the paper for LLaMA2, the published models for Pythia and Llama 3.2
    "shear-llama2-7b-1.3b": (LLAMA2, 1_345_423_360),
    "shear-llama2-7b-2.7b": (LLAMA2, 2_701_560_320),
    "shear-pythia-410m-160m": (NEOX | PYTHIA["410m"], 162_322_944),
    "shear-pythia-160m-70m": (NEOX | PYTHIA["160m"], 70_426_624),
    "shear-llama3.1-8b-3b": (LLAMA3, 3_606_752_256),  # 3.2 3B ties its head, which saves 394 M
}


def at_home(name: str, folder: Path) -> Recipe:
    """The recipe with its model in a folder that holds a configuration alone."""
    (folder / "config.json").write_text(json.dumps(PUBLISHED[name][0]))
    return load(name, [("stages.prune.model.path", str(folder)), ("tokenizer.path", str(folder))])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_target_is_the_published_shape(name: str, tmp_path: Path) -> None:
    recipe = at_home(name, tmp_path)
    stages = {s.stage.name: s for s in estimate_recipe(recipe, Question(epoch_tokens={}, only=("continue",))).stages}
    assert stages["continue"].cost.parameters.positions == PUBLISHED[name][1]
    left = config_of(recipe, recipe.stage("continue"))
    assert left["num_hidden_layers"] <= PUBLISHED[name][0]["num_hidden_layers"]


@pytest.mark.parametrize("name", [*PUBLISHED, "shear-demo"])
def test_prune_continue_instruct(name: str) -> None:
    recipe = load(name)
    prune, follow, instruct = (recipe.stage(stage) for stage in ("prune", "continue", "instruct"))
    assert isinstance(prune.method, Shear)
    assert follow.model.stage == "prune" and follow.mixture.start == "prune"
    assert prune.mixture.rule != "fixed" and prune.mixture.references == follow.mixture.references
    assert instruct.model.stage == "continue"
    data = recipe.dataset(instruct.dataset)
    assert isinstance(data, PairData) and data.template


@pytest.mark.parametrize("name", ["shear-llama2-7b-1.3b", "shear-llama2-7b-2.7b", "shear-llama3.1-8b-3b"])
def test_tokens_and_rates_are_those_of_the_paper(name: str) -> None:
    recipe = load(name)
    prune, follow = recipe.stage("prune"), recipe.stage("continue")
    assert prune.budget.steps * prune.batch.sequences * recipe.dataset("redpajama").context == 419_430_400
    assert follow.budget.steps * follow.batch.sequences * recipe.dataset("redpajama").context == pytest.approx(
        5e10, rel=0.08
    )
    assert prune.optimizer.lr == follow.optimizer.lr == 1e-4
    assert isinstance(prune.method, Shear) and prune.method.rate == prune.method.multiplier_rate == 1.0
    assert prune.method.warmup * 5 == prune.budget.steps


@dataclass
class Text:
    """As much text as anybody asks for."""

    mean_length: float

    def __len__(self) -> int:
        return 10**6


def cost_of(recipe: Recipe) -> float:
    """Of the validations in the stage that prunes, beside its training."""
    prune, text = recipe.stage("prune"), recipe.dataset("redpajama")
    (found,) = estimate_recipe(recipe, Question(epoch_tokens={}, only=("prune",))).stages
    flops = found.cost.flops.recomputing() if prune.activations == "recompute" else found.cost.flops
    assert isinstance(text, TextData)
    plan = Plan(num_steps=prune.budget.steps, num_warmup=0, validate_every=50, save_every=0, accumulation=1)
    tokens = prune.batch.sequences * text.context
    held_out: dict[str, Any] = {source.name: Text(text.context) for source in text.valid}
    cost = cost_of_looking(prune, held_out, plan, tokens, flops)
    assert found.validation == pytest.approx(cost)
    assert ("A smaller validation.sequences" in told_cost(prune, held_out, plan, cost)) == (cost > 0.1)
    return cost


@pytest.mark.parametrize("name", PUBLISHED)
def test_validation_while_pruning_costs_what_is_said(name: str, tmp_path: Path) -> None:
    """0.92 billion tokens forward beside 0.42 billion forward, again and backward."""
    cost = cost_of(at_home(name, tmp_path))
    assert cost == pytest.approx(0.55, abs=0.01) if "llama2" in name else cost <= 0.10


def test_a_mixture_that_follows_looks_at_64_sequences_of_each_domain() -> None:
    prune = load("shear-llama2-7b-1.3b").stage("prune")
    assert batches_of(prune) * prune.batch.micro == 500
    own = replace(prune, validation=replace(prune.validation, sequences=0))
    assert batches_of(own) * own.batch.micro == 64
    assert batches_of(replace(own, mixture=Mixing())) == 0  # all there is
    few = replace(own, validation=replace(own.validation, max_batches=3))
    assert sequences_of(few, {"text": Text(8.0), "none": ()}) == {"text": 12, "none": 0}  # type: ignore[dict-item]
    assert load("shear-llama2-7b-1.3b", [("stages.prune.validation.sequences", 64)]) != load("shear-llama2-7b-1.3b")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([("sequences", "papr")], "stages.0.validation.sequences.*papr.*must be a whole number or paper"),
        ([("sequences", -1)], "stages.0.validation.sequences.* is -1, but it must be at least 0"),
        ([("max_batches", 3)], "stages.0.validation.*max_batches and sequences both say"),
    ],
)
def test_amounts_that_cannot_be(settings: list[tuple[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load("shear-llama2-7b-1.3b", [(f"stages.prune.validation.{key}", value) for key, value in settings])


def test_a_reference_of_another_domain_is_refused() -> None:
    with pytest.raises(UserError, match=r"mixture.references"):
        load("shear-llama2-7b-1.3b", [("stages.prune.mixture.references.losses.web", "2.0")])


@pytest.mark.parametrize("name", [*PUBLISHED, "shear-demo", "shear-stories"])
def test_a_dry_run_can_be_made_of_it(name: str) -> None:
    short = rehearsal_of(load(name), "rehearsal")
    assert [stage.budget.steps for stage in short.stages] == [1] * len(short.stages)
    assert [stage.mixture for stage in short.stages] == [stage.mixture for stage in load(name).stages]
