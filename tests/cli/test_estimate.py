"""`fallow estimate` from the command line: text, JSON, mistakes, and that it stays cheap."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fallow.cli.main import main
from tests.house.source import ROOT
from tests.run.tiny import write_recipe

LLAMA = str(ROOT / "tests" / "run" / "llama_7b.yaml")


@pytest.mark.parametrize("recipe", ["spdf-gpt3-xl", LLAMA], ids=["GPT-3 XL", "Llama 7B"])
def test_little_more_than_the_imports_of_torch_and_transformers(recipe: str) -> None:
    code = (
        "import sys; from fallow.cli.main import main; "
        f"code = main(['estimate', {recipe!r}, '--json', '--loss', '--processes', '8', '--memory', '80']); "
        "sys.exit(code)"
    )
    alone, _ = processor_seconds("import torch; from transformers import AutoModelForCausalLM, LlamaForCausalLM")
    seconds, _ = processor_seconds(code)
    assert seconds < 3 * alone  # 1.3 times on a quiet machine; a model with weights would take minutes
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_500_000  # kilobytes: torch itself, and no weights


def processor_seconds(code: str) -> tuple[float, str]:
    """Processor time of a new Python that runs ``code``, and what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def test_json_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "spdf-demo", "--json", "--memory", "8", "--loss"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in found["stages"]][:3] == ["pretrain-dense", "pretrain-50", "pretrain-75"]
    stage = found["stages"][2]
    assert stage["fits"] is True
    assert stage["parameters"]["nonzero"] < stage["parameters"]["positions"]
    assert stage["flops"]["executed"] == stage["flops"]["dense"] > stage["flops"]["needed"]
    assert stage["loss"]["laws"][0]["limits"]
    assert found["total"]["flops"]["needed"] == sum(s["flops"]["needed"] for s in found["stages"])


def test_text_says_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--only",
        "pretrain-75",
        "--processes",
        "8",
        "--memory",
        "80",
        "--loss",
        "--tokens-per-second",
        "50_000",
    ]
    assert main(["estimate", "spdf-gpt3-xl", *arguments]) == 0
    printed = capsys.readouterr().out
    text = " ".join(printed.split())
    for words in (
        "1,315,723,264", "Ratio 2.49x, ceiling 2.49x", "path materialise multiplies by the zeros too", "indices 606 MB",
        "It fits in 80 GB with micro-batch 4; largest micro-batch is 8", "all-gather", "a checkpoint 4.92 GB", "6.02 d",
        "acts like a dense one of 651M (0.54 of it)", "pruned gradually",
    ):  # fmt: skip
        assert words in text
    assert max(map(len, printed.splitlines())) <= 120


def test_settings_can_be_changed(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--only", "pretrain-75", "--stages.pretrain-75.method.sparsity", "0.9", "--json"]
    assert main(["estimate", "spdf-demo", *flags]) == 0
    stage = json.loads(capsys.readouterr().out)["stages"][0]
    assert stage["parameters"]["sparsity_of_linear_layers"] == pytest.approx(0.9, abs=1e-4)


def test_measure_runs_real_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(write_recipe(tmp_path))
    assert main(["estimate", recipe, "--measure", "--json", "--only", "pretrain"]) == 0
    captured = capsys.readouterr()
    stage = json.loads(captured.out)["stages"][0]
    assert "through one block and two" in captured.err
    assert stage["tokens_per_second"] > 0
    assert stage["seconds"] == pytest.approx(stage["budget"]["tokens"] / stage["tokens_per_second"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which recipe?"),
        (["--json"], "which recipe? Write it first"),
        (["spdf-dmo"], "Did you mean spdf-demo"),
        (["spdf-demo", "--memory", "lots"], "--memory is lots, but it must be a number"),
        (["spdf-demo", "--memory"], "--memory needs a value"),
        (["spdf-demo", "--memory", "-1"], "must be above 0"),
        (["spdf-demo", "--processes", "1.5"], "must be a whole number"),
        (["spdf-demo", "--json=yes"], "--json takes no value"),
        (["spdf-demo", "--epoch-tokens", "text"], "written DATASET=TOKENS"),
        (["spdf-demo", "--measure", "--tokens-per-second", "5"], "Remove one"),
        (["spdf-demo", "--stages.0.methd", "x"], "Did you mean stages.0.method"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert not captured.out
    assert len(captured.err.splitlines()) == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert all(flag in text for flag in ("--processes", "--memory", "--measure", "--loss", "--epoch-tokens"))


def test_a_model_type_without_a_table_is_estimated_and_said_to_be_by_structure(capsys) -> None:
    config = "{model_type: phi3, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4}"
    changes = ["--stages.pretrain-75.model.config", config, "--only", "pretrain-75"]
    assert main(["estimate", "spdf-demo", *changes]) == 0
    assert "activations of phi3 are counted by structure" in " ".join(capsys.readouterr().out.split())
