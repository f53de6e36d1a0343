"""The recipes of SLTrain against what is published: sizes of all arms, hyper-parameters, equal terms for all."""

import pytest

from fallow.run.estimate import Question, estimate_recipe
from fallow.run.recipe import load

SIZES = ("60m", "130m", "350m", "1b", "7b")

PARAMETERS = {  # millions: full rank, low rank, SLTrain; Han et al., 2024, table 2
    "60m": (58, 43, 44),
    "130m": (134, 94, 97),
    "350m": (368, 185, 194),
    "1b": (1339, 609, 646),
}


@pytest.mark.parametrize("size", PARAMETERS)
def test_parameters_are_those_of_the_table(size: str) -> None:
    recipe = load(f"sltrain-llama-{size}")
    cost = estimate_recipe(recipe, Question(epoch_tokens={}, only=("full-rank", "low-rank", "sltrain")))
    width = recipe.stages[0].model.config["hidden_size"]
    sentinels = 2 * 100 * width  # embedding and head have a row for each of the tokenizer's 100 sentinels
    found = [one.cost.parameters.stored - sentinels for one in cost.stages]
    assert [round(stored / 1e6) for stored in found] == list(PARAMETERS[size])


@pytest.mark.parametrize("size", SIZES)
def test_all_arms_have_equal_terms(size: str) -> None:
    recipe = load(f"sltrain-llama-{size}")
    first = recipe.stages[0]
    for stage in recipe.stages:
        assert (stage.budget, stage.batch, stage.schedule) == (first.budget, first.batch, first.schedule)
        assert stage.model == first.model and stage.dataset == "c4"
        assert stage.batch.sequences == 512 and recipe.dataset("c4").context == 256
        assert (stage.optimizer.betas, stage.optimizer.weight_decay) == ((0.9, 0.999), 0.0)
    ranks = {getattr(stage.method, "rank", getattr(stage.optimizer, "rank", 0)) for stage in recipe.stages[1:]}
    assert len(ranks) == 1


def test_both_published_rates_at_7b_are_named() -> None:
    recipe = load("sltrain-llama-7b")
    assert recipe.stage("sltrain-paper").optimizer.lr == 5e-4
    assert recipe.stage("sltrain-released").optimizer.lr == 3e-3
    assert recipe.stage("sltrain-paper").method == recipe.stage("sltrain-released").method
