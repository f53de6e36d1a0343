import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from fallow.cli.main import main


def cut(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["cut", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_smaller_model_that_transformers_loads(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "small"
    told = cut(capsys, str(model_folder), "--output", str(output), "--layers", "1", "--hidden", "16", "--inner", "40")
    model = AutoModelForCausalLM.from_pretrained(output)
    assert (model.config.n_layer, model.config.n_embd, model.config.n_head, model.config.n_inner) == (1, 16, 1, 40)
    assert told["target"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert (output / "tokenizer.json").is_file()
    again = cut(
        capsys, str(model_folder), "--output", str(tmp_path / "b"), "--kept", f"{output}/fallow-kept.safetensors"
    )
    assert again["layers"] == told["layers"]
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()


@pytest.mark.parametrize("by", [["--by", "wanda"], ["--depth", "loss"]])
def test_scores_that_need_text(
    by: list[str], model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("the cat sat on the mat and looked at the dog. " * 40)
    text = ["--data", str(tmp_path / "a.txt"), "--context", "16", "--sequences", "6"]
    told = cut(capsys, str(model_folder), "--output", str(tmp_path / "out"), "--layers", "1", *by, *text)
    assert told["target"]["layers"] == 1


def test_dry_run_writes_nothing(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cut", str(model_folder), "--parameters", "20000", "--dry-run"]) == 0
    assert "target: 1 layer, hidden 32" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name the folder of the result with --output"),
        (["--dry-run"], "no target is given"),
        (["--dry-run", "--layers", "5"], "layers is 5, but the source has 2"),
        (["--dry-run", "--layers", "1", "--kept", "x"], "--layers has no effect with --kept"),
        (["--output", "new", "--layers", "1", "--by", "taylor"], "Name some with --data"),
        (["--output", "new", "--layers", "1", "--data", "x.txt"], "--data has no effect with --by magnitude"),
        (["--output", "new", "--inner", "64", "--depth", "loss"], "--depth loss has no effect: no layer is cut"),
        (["--output", "new", "--layers", "1", "--by", "wanda", "--data", "x.txt", "--context", "99"], "64 positions"),
        (["--output", "new", "--layers", "1", "--shard-gigabytes", "0"], "--shard-gigabytes is 0"),
    ],
)
def test_mistakes(
    flags: list[str], message: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["cut", str(model_folder), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
