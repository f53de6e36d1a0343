"""The cost of recipes: known totals, budgets from what lies on disk, and what a run really counted."""

import json
from pathlib import Path

import pytest

from fallow.errors import UserError
from fallow.run.configs import config_of
from fallow.run.estimate import Question, RecipeCost, estimate_recipe
from fallow.run.recipe import Recipe, load
from fallow.run.sizes import Sizes
from tests.run.tiny import write_recipe

LLAMA = Path(__file__).parent / "llama_7b.yaml"


def cost(recipe: Recipe, **asked: object) -> RecipeCost:
    return estimate_recipe(recipe, Question(epoch_tokens=asked.pop("epoch_tokens", {}), **asked))


def test_the_totals_of_the_spdf_paper() -> None:
    """Supplement table 2: 236.1e18 dense, 94.8e18 at 75%, ratio 2.49; each stage rounds its tokens up to a step."""
    found = cost(load("spdf-gpt3-xl"), only=("pretrain-dense", "pretrain-75"))
    dense, sparse = found.stages
    assert dense.flops()["needed"] == pytest.approx(236.09e18, rel=1e-4)
    assert sparse.flops()["needed"] == pytest.approx(94.76e18, rel=1e-4)
    assert sparse.flops()["executed"] == sparse.flops()["dense"] == dense.flops()["needed"]
    assert sparse.flops()["forward"] * 3 == sparse.flops()["needed"]
    assert sparse.cost.flops.ceiling == pytest.approx(2.491, abs=1e-3)


def test_seven_billion_parameters() -> None:
    found = cost(load(LLAMA), only=("dense", "sparse"), processes=8, memory=80)
    dense, sparse = found.stages
    assert dense.cost.parameters.positions == sparse.cost.parameters.positions == 6_738_415_616
    assert dense.cost.memory.weights == pytest.approx(4 * 6_738_415_616 / 8, rel=1e-6)
    assert dense.cost.memory.optimizer == pytest.approx(8 * 6_738_415_616 / 8, rel=1e-4)
    # 2 bytes an entry and 4 a row, whole on every device; weights, gradients and states are shared out.
    rows = 32 * (4 * 4096 + 2 * 11008 + 4096 + 7)
    assert sparse.cost.memory.indices == 2 * 6_476_005_376 // 4 + 4 * rows
    assert dense.flops()["needed"] > 2 * sparse.flops()["needed"]
    assert dense.amount.steps == -(-140_000_000_000 // (1024 * 4096))


def test_time_is_never_credited_for_zeros() -> None:
    dense, sparse = cost(load(LLAMA), only=("dense", "sparse"), tokens_per_second=1000).stages
    assert dense.seconds == sparse.seconds == dense.amount.tokens / 1000


def test_memory_fits_or_does_not() -> None:
    recipe = load(LLAMA)
    tight, roomy = cost(recipe, only=("dense",), memory=80), cost(recipe, only=("dense",), memory=1000)
    assert tight.to_dict()["stages"][0]["fits"] is False
    assert tight.stages[0].cost.largest_micro == 0
    assert roomy.to_dict()["stages"][0]["fits"] is True
    micro = roomy.stages[0].cost.largest_micro
    again = cost(load(LLAMA, [("stages.dense.batch.micro", micro)]), only=("dense",), memory=1000)
    assert again.to_dict()["stages"][0]["fits"] is True
    assert again.stages[0].cost.memory.peak > roomy.stages[0].cost.memory.peak


def test_budgets_in_epochs_need_the_size_of_the_data() -> None:
    recipe = load(LLAMA)
    found = cost(recipe)
    assert found.stages[2].amount.tokens is None
    assert found.total()["unknown"] == ["epochs"]
    assert "give --epoch-tokens text=N" in found.stages[2].amount.why
    known = cost(recipe, epoch_tokens={"text": 1_000_000_000}).stages[2].amount
    sequences = 1_000_000_000 // 4096
    assert known.steps == -(-2 * sequences // 1024)
    assert known.tokens == known.steps * 1024 * 4096


def test_sizes_come_from_prepared_shards_and_files(tmp_path) -> None:
    from fallow.data.splits import open_data, open_tokenizer

    recipe = load(write_recipe(tmp_path), [("output", str(tmp_path / "run")), ("stages.0.budget", {"epochs": 3})])
    stage, tune = recipe.stages
    assert Sizes(recipe, {}).amount(stage).certainty == "unknown"
    tokenizer = open_tokenizer(recipe.tokenizer, recipe.datasets.values(), tmp_path / "run")
    splits = open_data(recipe.dataset("text"), tokenizer, tmp_path / "run" / "data" / "text")
    mixture = splits.mixture(stage.batch.sequences)
    amount = Sizes(recipe, {}).amount(stage)
    assert amount.steps == stage.budget.num_steps(mixture.tokens_per_batch, mixture.epoch_length / 8)
    assert amount.tokens == amount.steps * mixture.tokens_per_batch
    assert amount.certainty == "exact"
    pairs = open_data(recipe.dataset("pairs"), tokenizer, tmp_path / "run" / "data" / "pairs").train[0][1]
    assert Sizes(recipe, {}).data("pairs").sequences == len(pairs)
    by_epoch = load(write_recipe(tmp_path), [("stages.1.budget", {"epochs": 2})])
    assert Sizes(by_epoch, {}).amount(by_epoch.stages[1]).steps == -(-2 * len(pairs) // 4)
    at_most = Sizes(recipe, {}).amount(tune)
    assert at_most.certainty == "at most"
    assert at_most.tokens == 16 * 4 * 64 >= 16 * 4 * pairs.mean_length
    exact = Sizes(recipe, {"pairs": pairs.num_tokens}).amount(tune)
    assert (exact.certainty, exact.steps) == ("exact", 16)
    assert exact.tokens == 16 * round(4 * pairs.mean_length)


def test_the_trials_of_a_grid_add_up(tmp_path) -> None:
    recipe = load(
        write_recipe(tmp_path), [("stages.0.grid", {"optimizer.lr": [1e-3, 2e-3], "batch.sequences": [8, 16]})]
    )
    amount = Sizes(recipe, {}).amount(recipe.stages[0])
    assert amount.trials == 4
    assert amount.steps == 4 * 24
    assert amount.tokens == 2 * 24 * 16 * (8 + 16)
    found = cost(recipe).stages[0]
    assert found.disk_left == 5 * found.cost.disk.model


def test_what_a_run_counts_is_what_was_estimated(tmp_path) -> None:
    """The record of a real run of two stages: parameters, operations, bytes."""
    from fallow.run.orchestrate import run_recipe

    recipe = load(write_recipe(tmp_path), [("output", str(tmp_path / "run"))])
    before = cost(recipe)
    run_recipe(recipe, json=True)
    for one, stage in zip(before.stages, ("pretrain", "tune"), strict=True):
        numbers = json.loads((tmp_path / "run" / stage / "stage.json").read_text())["training"]
        counts = one.cost.parameters
        assert (counts.positions, counts.stored) == (numbers["counts"]["positions"], numbers["counts"]["stored"])
        assert one.amount.steps == numbers["steps"]
        assert one.cost.flops.reduction == numbers["reduction"]
        memory = numbers["memory"]
        for part in ("weights", "optimizer", "indices"):
            assert getattr(one.cost.memory, part) == memory["layers"][part] + memory["rest"][part]
        if one.amount.certainty == "exact":
            assert one.flops()["needed"] == numbers["flops"]
            assert one.flops()["executed"] == numbers["flops_executed"]
        else:
            assert one.flops()["needed"] >= numbers["flops"]
        size = (tmp_path / "run" / stage / "model" / "model.safetensors").stat().st_size
        assert 0 < size - one.cost.disk.model < 10_000


def test_losses_are_predicted_where_the_laws_speak(tmp_path) -> None:
    dense, sparse, later = cost(load(LLAMA), loss=True).stages
    law = sparse.losses[0]
    assert law.dense / law.size == pytest.approx(0.54, abs=0.005)
    assert dense.losses[1].loss < sparse.losses[1].loss
    assert not later.losses
    assert "begins with a trained model" in later.no_loss
    assert (
        "pairs"
        in cost(load(write_recipe(tmp_path), [("stages.1.model", {"config": {"model_type": "gpt2"}})]), loss=True)
        .stages[1]
        .no_loss
    )


def test_configurations_come_from_folders_without_transformers(tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 3, "dtype": "bfloat16"}))
    recipe = load(write_recipe(tmp_path), [("stages.0.model", {"path": str(folder)})])
    assert config_of(recipe, recipe.stages[0]) == {"model_type": "gpt2", "n_layer": 3}
    assert config_of(recipe, recipe.stages[1])["n_layer"] == 3


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        ([("stages.0.model", {"path": "nowhere"})], {}, "nowhere holds no model"),
        ([("stages.0.model", {"path": "hub:owner/name"})], {}, "not on this machine. Give a folder"),
        ([("tokenizer", {"path": "someone/else"})], {}, "model.config.vocab_size N"),
        ([], {"processes": 3}, "stage pretrain: batch.sequences is 8, which 3 processes cannot share"),
        ([], {"processes": 0}, "--processes is 0"),
        ([], {"epoch_tokens": {"txt": 5}}, 'unknown data set "txt". Did you mean "text"'),
        ([], {"epoch_tokens": {"text": 0}}, "at least 1 token"),
        ([], {"only": ("pretran",)}, 'Did you mean "pretrain"'),
        ([("stages.0.targets", ["c_atn"])], {}, 'stage pretrain: targets "c_atn" match nothing in GPT2LMHeadModel'),
        ([("stages.0.model.config.model_type", "gpt3")], {}, 'stage pretrain: model.config: unknown model_type "gpt3"'),
    ],
)
def test_bad_input(tmp_path, changes, asked, message) -> None:
    with pytest.raises(UserError, match=message):
        cost(load(write_recipe(tmp_path), changes), **asked)
