import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fallow.cli.main import main
from fallow.integrity import MARK, with_mark
from fallow.metrics.scores import bleu

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
    assert result["bleu"] == bleu(texts, references)["bleu"] == result["metrics"]["scores"]["bleu"]
    assert result["decoding"]["words"] == "generate, greedy, at most 8 new tokens"
    assert result["num_bytes"] == sum(len(text) for group in references for text in group)
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


def test_windows_cover_every_token(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in zip("ab", TEXTS, strict=True):
        (tmp_path / f"{name}.txt").write_text(text)
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    flags = ["--context", "32", "--stride", "8", "--n-plus-one", "2"]
    result = evaluate(capsys, str(model_folder), "--data", *files, *flags)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert result["num_tokens"] == sum(len(tokenizer(text)["input_ids"]) + 1 for text in TEXTS)
    assert result["num_bytes"] == sum(len(text.encode()) for text in TEXTS)
    total = result["loss"] * result["num_tokens"]
    assert result["bits_per_byte"] == pytest.approx(total / math.log(2) / result["num_bytes"])
    assert set(result["n_plus_one"]) == {"a", "b"}
    assert main(["evaluate", str(model_folder), "--data", *files, *flags]) == 0
    said = capsys.readouterr().out
    assert f"bits per byte {result['bits_per_byte']:.4f}" in said
    assert "a new one every 8 tokens" in said
    assert '"N + 1" figure' in said


def test_texts_are_kept_and_gone_on_from(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = str(tmp_path / "texts.jsonl")
    flags = ["--format", "jsonl", "--data", str(pairs_file(tmp_path)), "--decoder", "lora", "--num-beams", "3"]
    flags += ["--max-new-tokens", "6", "--profile", "e2e", "--texts", texts]
    first = evaluate(capsys, str(model_folder), *flags)
    assert first["metrics"]["profile"] == "e2e"
    assert first["bleu"] == first["metrics"]["scores"]["bleu"]
    rows = [json.loads(line) for line in Path(texts).read_text().splitlines()]
    assert [row["context"] for row in rows[1:]] == ["the cat", "a dog"]
    own = {key: value for key, value in rows[2].items() if key != MARK}
    rows[2] = with_mark({**own, "text": "a text that no model wrote"})
    Path(texts).write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = evaluate(capsys, str(model_folder), *flags)
    assert again["samples"][1]["output"] == "a text that no model wrote"  # so it was read, not generated
    assert main(["evaluate", str(model_folder), *flags, "--no-repeat-ngram-size", "2"]) == 2
    assert "no_repeat_ngram_size is 0 there and 2 here" in capsys.readouterr().err
    assert main(["evaluate", str(model_folder), *flags[:-1], str(tmp_path / "pairs.jsonl")]) == 2
    assert "holds something else than generated texts" in capsys.readouterr().err
    assert main(["evaluate", str(model_folder), *flags]) == 0
    said = capsys.readouterr().out
    assert "lora, 3 beams, length penalty 1, at most 6 new tokens" in said
    assert "profile e2e: e2e-metrics" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs --data"),
        (["--data", "absent.txt"], "absent.txt"),
        (["--data", "x.txt", "--num-beams", "3"], "--num-beams has no effect on text"),
        (["--data", "x.txt", "--lowercase"], "--lowercase has no effect on text"),
        (["--data", "x.txt", "--decoder", "lora"], "--decoder has no effect on text"),
        (["--data", "x.txt", "--profile", "dart"], "--profile has no effect on text"),
        (["--data", "x.txt", "--texts", "y"], "--texts has no effect on text"),
        (["--data", "x.txt", "--length-penalty", "2"], "--length-penalty has no effect on text"),
        (["--data", "x.txt", "--stride", "-3"], "stride is -3, but it must be at least 0"),
        (["--data", "x.txt", "--context", "32", "--stride", "33"], "Write 1 to 32; 16 is usual"),
        (["--data", "x", "--format", "e2e", "--stride", "3"], "--stride has no effect on pairs"),
        (["--data", "x", "--format", "e2e", "--n-plus-one", "3"], "--n-plus-one has no effect on pairs"),
        (["--data", "x", "--format", "e2e", "--profile", "e2e", "--lowercase"], "no effect with --profile e2e"),
        (["--data", "x", "--format", "e2e", "--profile", "e3e"], "--profile"),
        (["--data", "x", "--format", "e2e", "--decoder", "beam"], "--decoder"),
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
