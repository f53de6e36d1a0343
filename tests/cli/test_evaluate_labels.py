"""`fallow evaluate` on labelled texts. Oracle: transformers, asked text by text."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

import fallow
from fallow.cli.main import main
from fallow.metrics.classification import f1
from tests.data.labelled import WORDS, bert_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with a head for MRPC."""
    home = tmp_path_factory.mktemp("mrpc")
    tokenizer = bert_tokenizer(home)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), num_hidden_layers=2, hidden_size=32, intermediate_size=64, num_attention_heads=2,
        max_position_embeddings=48, initializer_range=0.4, id2label={0: "not_equivalent", 1: "equivalent"},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(home / "model")
    tokenizer.save_pretrained(home / "model")
    rows = [(i * i % 3 % 2, " ".join(WORDS[: 2 + i % 7]), " ".join(WORDS[i % 5 : 7 + i % 4])) for i in range(20)]
    lines = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", *(f"{q}\t1\t2\t{a}\t{b}" for q, a, b in rows)]
    (home / "dev.tsv").write_text("\n".join(lines) + "\n")
    (home / "test.tsv").write_text(
        "\n".join(["index\t#1 String\t#2 String", *(f"{i}\t{a}\t{b}" for i, (_, a, b) in enumerate(rows))]) + "\n"
    )
    return home


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["evaluate", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_metrics_and_answers(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = tmp_path / "MRPC.tsv"
    common = [str(folder / "model"), "--format", "mrpc"]
    result = evaluate(capsys, *common, "--data", str(folder / "dev.tsv"), "--answers", str(answers))
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = [line.split("\t") for line in (folder / "dev.tsv").read_text().splitlines()[1:]]
    with torch.no_grad():
        found = [int(model(**tokenizer(a, b, return_tensors="pt")).logits.argmax()) for _, _, _, a, b in rows]
    labels = torch.tensor([int(row[0]) for row in rows], dtype=torch.float64).numpy()
    assert result["f1"] == pytest.approx(f1(torch.tensor(found, dtype=torch.float64).numpy(), labels))
    assert result["accuracy"] == pytest.approx(sum(a == b for a, b in zip(found, labels, strict=True)) / 20)
    assert result["score"] == pytest.approx((result["f1"] + result["accuracy"]) / 2)
    assert (result["task"], result["num_examples"], result["context"]) == ("mrpc", 20, 48)
    expected = ["index\tprediction", *(f"{i}\t{answer}" for i, answer in enumerate(found))]
    assert answers.read_text().splitlines() == expected
    answers.unlink()
    blind = evaluate(capsys, *common, "--data", str(folder / "test.tsv"), "--answers", str(answers))
    assert "accuracy" not in blind and blind["num_answers"] == 20
    assert answers.read_text().splitlines() == expected


def test_an_unmerged_folder_and_words_for_people(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    fallow.convert(model, "sparse", sparsity=0.5)
    fallow.save(model, tmp_path)
    data = ["--data", str(folder / "dev.tsv"), str(folder / "dev.tsv"), "--format", "mrpc"]
    words = ["--tokenizer", str(folder / "model")]
    assert main(["evaluate", str(tmp_path), *data, *words, "--context", "9", "--overflow", "cut"]) == 0
    said = capsys.readouterr().out
    assert "mrpc: loss" in said and "f1" in said and "(40 texts)" in said and "were cut" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "rte"], "tells apart not_equivalent, equivalent, but rte needs"),
        (["--format", "stsb"], "has no column sentence1, which a file of stsb has"),
        (["--format", "mrpc", "--num-beams", "4"], "--num-beams has no effect on labels"),
        (["--format", "mrpc", "--stride", "4"], "--stride has no effect on labels"),
        (["--format", "mrpc", "--context", "8"], "longer than the context of 8 tokens"),
        (["--format", "mrpc", "--context", "80"], "the model has 48 positions"),
        (["--format", "mrpc", "--answers", "x.tsv", "--overflow", "drop"], "--answers needs one to each text"),
        (["--format", "text", "--answers", "x.tsv"], "--answers has no effect on text"),
        (["--format", "text"], "has no end token"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = folder / "dev.tsv"
    if "rte" in arguments:
        data = tmp_path / "rte.tsv"
        data.write_text("sentence1\tsentence2\tlabel\ngood\tbad\tentailment\n")
    assert main(["evaluate", str(folder / "model"), "--data", str(data), *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and message in said.err.strip().splitlines()[-1]


def test_a_language_model_has_no_head_for_labels(
    folder: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(model_folder), "--format", "mrpc", "--data", str(folder / "dev.tsv")]
    assert main(command) == 2
    assert "holds a GPT2LMHeadModel, which has no head for labels" in capsys.readouterr().err
