import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fallow.cli.main import main
from fallow.evaluate.bleu import bleu

TEXTS = ["the cat sat on the mat and looked at the dog. " * 6, "a dog ran over there, and the cat did not. " * 9]


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["evaluate", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_text_equals_float64_on_the_packed_tokens(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in zip("ab", TEXTS, strict=True):
        (tmp_path / f"{name}.txt").write_text(text)
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    result = evaluate(capsys, str(model_folder), "--data", *files, "--context", "32", "--batch-size", "3")

    tokenizer, model = AutoTokenizer.from_pretrained(model_folder), AutoModelForCausalLM.from_pretrained(model_folder)
    total, count = 0.0, 0
    for text in TEXTS:
        ids = torch.tensor([*tokenizer(text)["input_ids"], tokenizer.eos_token_id])
        for start in range(0, len(ids) - 32, 32):
            window = ids[start : start + 33]
            with torch.no_grad():
                logits = model.double()(window[None, :-1]).logits[0]
            total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
            count += 32
    assert result["num_tokens"] == count
    assert result["loss"] == pytest.approx(total / count, abs=1e-5)
    assert result["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert set(result["parts"]) == {"a", "b"}


def pairs_file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [("the cat", "sat on the mat"), ("the cat", "sat there on the mat"), ("a dog", "ran over there to the cat")]
    path.write_text("".join(json.dumps({"context": c, "target": t}) + "\n" for c, t in rows))
    return path


def test_pairs_give_bleu_against_all_references(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pairs_file(tmp_path)
    result = evaluate(capsys, str(model_folder), "--format", "jsonl", "--data", str(path), "--max-new-tokens", "8")
    assert (result["num_contexts"], result["num_contexts_total"], result["pairs"]["read"]) == (2, 2, 3)
    samples = {sample["context"]: sample for sample in result["samples"]}
    assert samples["the cat"]["references"] == ["sat on the mat", "sat there on the mat"]
    texts = [samples[context]["output"] for context in ("the cat", "a dog")]
    references = [samples[context]["references"] for context in ("the cat", "a dog")]
    assert result["bleu"] == bleu(texts, references)["bleu"]
    assert result["num_tokens"] > 3


def test_output_for_people_says_what_was_measured(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(model_folder), "--format", "jsonl", "--data", str(pairs_file(tmp_path))]
    assert main([*command, "--max-contexts", "1", "--lowercase"]) == 0
    said = capsys.readouterr().out
    assert "perplexity" in said
    assert "1 of 2 contexts" in said
    assert "case:lc" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs --data"),
        (["--data", "absent.txt"], "absent.txt"),
        (["--data", "x.txt", "--num-beams", "3"], "--num-beams has no effect on text"),
        (["--data", "x.txt", "--lowercase"], "--lowercase has no effect on text"),
        (["--data", "x", "--format", "e2e", "--max-megabytes", "3"], "--max-megabytes has no effect on pairs"),
        (["--data", "x", "y", "--format", "e2e"], "takes one file"),
        (["--data", "x", "--format", "embedded"], "--data has no effect"),
        (["--data", "x.txt", "--context", "999"], "the model has 64 positions"),
        (["--data", "x.txt", "--batch-size", "0"], "batch_size is 0"),
        (["--data", "x.txt", "--formatt", "e2e"], "--formatt"),
    ],
)
def test_mistakes_are_one_line(
    model_folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(model_folder), *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err.strip().splitlines()[-1]


def test_a_folder_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path), "--data", "x.txt"]) == 2
    assert "holds no model" in capsys.readouterr().err
