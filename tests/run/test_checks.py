"""What does not fit is told before anything is trained."""

import json
from pathlib import Path

import pytest

from fallow.cli.main import main
from fallow.run import shipped
from fallow.run.heads import head_of
from fallow.run.recipe import load
from fallow.run.sources import check_stage
from tests.run.tiny import write_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_layer: 2", "n_layr: 2", 'stage pretrain: model.config: unknown value "n_layr". Did you mean "n_layer"?'),
        ("n_layer: 2", "n_layer: two", "stage pretrain: model.config is refused by transformers"),
        ("n_embd: 32", "n_embd: -32", "stage pretrain: model.config: n_embd is -32, but it must be at least 0"),
        ("n_head: 2", "n_head: 3", "stage pretrain: model.config is refused by transformers"),
        ("model_type: gpt2", "model_type: gpt9", 'unknown model_type "gpt9"'),
        (
            "sparsity: 0.75",
            "sparsity: 0.75, support: 'block:7'",
            "stage pretrain: support block:7 needs a multiple of 7",
        ),
        ("sparsity: 0.75", "sparsity: 0.99999", "stage pretrain: this sparsity leaves no entry in"),
        ("label: sparse", "targets: [q_proj]", 'stage pretrain: targets "q_proj" match nothing in GPT2LMHeadModel'),
        ("label: then dense", "targets: [q_proj]", 'stage tune: targets "q_proj" match nothing'),
        ("{stage: pretrain}", "{path: /nowhere}", "stage tune: model.path is /nowhere, which holds no model"),
    ],
)
def test_before_anything_is_made(
    old: str, new: str, message: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = recipe.read_text()
    assert old in text
    (tmp_path / "r.yaml").write_text(text.replace(old, new, 1))
    assert main(["run", str(tmp_path / "r.yaml"), "--output", str(tmp_path / "run")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"fallow run: {message}" if message.startswith("stage") else "fallow run: ")
    assert message in output.err
    assert output.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_long_pair_of_the_last_stage_before_the_first_is_trained(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found after the first stage, it would cost that stage: another overflow is another recipe."""
    (tmp_path / "r.yaml").write_text(recipe.read_text().replace("context: 64", "context: 8"))
    assert main(["run", str(tmp_path / "r.yaml"), "--output", str(tmp_path / "run")]) == 2
    assert "are longer than the context of 8 tokens" in capsys.readouterr().err
    assert not (tmp_path / "run" / "pretrain").exists()


def test_only_without_a_stage(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(recipe), "--output", str(tmp_path / "run"), "--only"]) == 2
    assert "--only names no stage. Write --only STAGE" in capsys.readouterr().err


FOLDERS = {
    "stories260K": {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 5,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 512, "max_position_embeddings": 512,
    },
    "minilm": {
        "model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
        "num_attention_heads": 12, "vocab_size": 30522, "gradient_checkpointing": False,
    },
}  # fmt: skip
"""Sizes of models that recipes expect in the current folder."""


@pytest.mark.parametrize("name", shipped.names())
def test_shipped_recipes_fit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, sizes in FOLDERS.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(sizes))
    monkeypatch.chdir(tmp_path)
    recipe = load(name)
    for stage in recipe.stages:
        chain = [recipe.stage(name) for name in recipe.lineage([stage.name])]
        check_stage(chain, head_of(recipe.datasets[stage.dataset]), 0, [])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "stage pretrain: optimizer.galore projects gradients of dense matrices, and found none"),
        (
            ["--stages.pretrain.method", "{name: dense}"],
            "stage pretrain: optimizer.rank is 40, but transformer.h.0.attn.c_attn.weight is 32 x 96. Write at most 32",
        ),
        (["--stages.pretrain.optimizer.update", "per_layer"], "stages.0.optimizer.clip is 1 by the norm of all grad"),
        (["--stages.pretrain.optimizer.weights", "bf16"], "stages.0.optimizer.weights is bf16, with which nothing can"),
        (["--stages.pretrain.optimizer.name", "adam8bit"], 'unknown optimizer "adam8bit". Did you mean "adamw8bit"?'),
        (["--stages.pretrain.optimizer.block", "256"], "unknown key stages.0.optimizer.block"),
    ],
)
def test_optimizers_that_do_not_fit(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture, flags: list[str], message: str
) -> None:
    galore = ["--stages.pretrain.optimizer.name", "galore", "--stages.pretrain.optimizer.rank", "40"]
    changed = ["--output", str(tmp_path / "out"), *(galore if "rank" in message or "galore" in message else []), *flags]
    assert main(["run", str(recipe), *changed]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()
