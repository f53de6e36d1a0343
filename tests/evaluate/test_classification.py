"""Loss and metrics of a classifier. Oracle: transformers' own loss, and metrics of answers taken one by one."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from fallow.data import ClassificationDataset
from fallow.data.formats.glue import Example
from fallow.data.task import TASKS
from fallow.errors import UserError
from fallow.evaluate.classification import answers_of, classify, pad_with, pooled
from fallow.evaluate.prompts import positions_of
from fallow.metrics.classification import METRICS
from tests.data.labelled import WORDS, bert_tokenizer


def examples(labels: list[Any]) -> list[Example]:
    return [
        Example(" ".join(WORDS[: 1 + i % 7]), " ".join(WORDS[i % 5 : 6 + i % 9]), label)
        for i, label in enumerate(labels)
    ]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return bert_tokenizer(tmp_path_factory.mktemp("words"))


def bert(tokenizer: Any, **values: Any) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), num_hidden_layers=2, hidden_size=32, intermediate_size=64, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.5, **values,
    )  # fmt: skip
    return BertForSequenceClassification(config)


@pytest.mark.parametrize("task", ["rte", "mrpc", "stsb"])
def test_equals_the_model_asked_one_by_one(task: str, tokenizer: Any) -> None:
    known = TASKS[task]
    labels = [float(i % 6) for i in range(17)] if known.is_regression else [i * i % 3 % 2 for i in range(17)]
    data = ClassificationDataset(examples(labels), tokenizer, 48, known)
    model = bert(tokenizer, num_labels=known.num_outputs)
    measured = {size: classify(model, data, batch_size=size) for size in (1, 4, 32)}
    assert model.training  # as it was
    model.eval()
    losses, answers = [], []
    for example in data.examples:
        inputs = tokenizer(example.first, example.second, return_tensors="pt")
        with torch.no_grad():
            output = model(**inputs, labels=torch.tensor([example.label]))
        losses.append(float(output.loss))
        answers.append(float(output.logits[0, 0] if known.is_regression else output.logits[0].argmax()))
    assert len(set(answers)) > 1
    for found in measured.values():
        assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
        for name in known.metrics:
            assert found[name] == pytest.approx(METRICS[name](np.array(answers), np.array(labels)), abs=1e-6)
        assert found["score"] == pytest.approx(sum(found[name] for name in known.metrics) / len(known.metrics))
        assert found["num_examples"] == 17
    written = answers_of(model, data, batch_size=4)
    if known.is_regression:
        assert [float(text) for text in written] == pytest.approx(np.clip(answers, 0, 5), abs=1e-3)
    else:
        assert written == [known.written[int(answer)] for answer in answers]


def test_gpt2_answers_at_the_last_token_whatever_the_padding(tmp_path: Path) -> None:
    from fallow.data import TokenizerSettings, train_tokenizer

    words = train_tokenizer(TokenizerSettings(vocab_size=280), [" ".join(WORDS) * 9], tmp_path / "bpe")
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(
        GPT2Config(n_layer=2, n_embd=32, n_head=2, n_positions=64, vocab_size=len(words), initializer_range=0.4)
    )
    pad_with(model, words)
    data = ClassificationDataset(examples([i % 2 for i in range(12)]), words, 64, TASKS["rte"])
    one, many = classify(model, data, batch_size=1), classify(model, data, batch_size=12)
    assert many["loss"] == pytest.approx(one["loss"], rel=1e-5) and many["accuracy"] == one["accuracy"]


def test_positions_behind_the_padding_of_roberta(tokenizer: Any) -> None:
    config = RobertaConfig(
        vocab_size=len(tokenizer), num_hidden_layers=1, hidden_size=16, intermediate_size=16, num_attention_heads=2,
        max_position_embeddings=18, pad_token_id=1,
    )  # fmt: skip
    model = RobertaForSequenceClassification(config).eval()
    assert positions_of(model) == 16
    model(input_ids=torch.full((1, 16), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, 17), 5))
    assert positions_of(bert(tokenizer)) == 64


def test_classes_are_matched_by_name(tokenizer: Any) -> None:
    data = ClassificationDataset(examples([i % 3 for i in range(12)]), tokenizer, 48, TASKS["mnli"])
    model = bert(tokenizer, num_labels=3)
    plain = classify(model, data)
    turned = copy.deepcopy(model)
    order = [2, 0, 1]  # contradiction, entailment, neutral: as some published models number them
    with torch.no_grad():
        turned.classifier.weight.copy_(model.classifier.weight[order])
        turned.classifier.bias.copy_(model.classifier.bias[order])
    turned.config.id2label = {0: "CONTRADICTION", 1: "ENTAILMENT", 2: "NEUTRAL"}
    assert classify(turned, data) == pytest.approx(plain)
    turned.config.id2label = {0: "joy", 1: "anger", 2: "fear"}
    with pytest.raises(UserError, match="tells apart joy, anger, fear, but mnli needs entailment"):
        classify(turned, data)
    with pytest.raises(UserError, match="gives 2 numbers for a text, but mnli needs 3"):
        classify(bert(tokenizer, num_labels=2), data)


def test_processes_together_see_each_example_once(tokenizer: Any) -> None:
    data = ClassificationDataset(examples([i % 2 for i in range(11)]), tokenizer, 48, TASKS["rte"])
    model = bert(tokenizer)
    shares: list[Any] = []

    class Mesh:
        world = 3

        def __init__(self, rank: int, known: list[Any]) -> None:
            self.rank, self.known = rank, known

        def sum(self, value: float) -> float:
            return value

        def gather(self, value: Any) -> list[Any]:
            shares.append(value)
            return self.known

    for rank in range(3):
        classify(model, data, batch_size=2, mesh=Mesh(rank, [[(0, 0.0, 0.0, 0.0)]]))
    assert sorted(row[0] for share in shares for row in share) == list(range(11))
    assert classify(model, data, batch_size=2, mesh=Mesh(0, shares[:])) == pytest.approx(classify(model, data))


def test_a_part_and_two_sets(tokenizer: Any) -> None:
    data = ClassificationDataset(examples([i % 2 for i in range(12)]), tokenizer, 48, TASKS["rte"])
    assert classify(bert(tokenizer), data, batch_size=2, max_batches=3)["num_examples"] == 6
    both = pooled(
        [
            {"loss": 1.0, "score": 0.5, "accuracy": 0.5, "num_examples": 10},
            {"loss": 4.0, "score": 0.7, "accuracy": 0.7, "num_examples": 30},
        ]
    )
    assert both == pytest.approx({"loss": 3.25, "score": 0.6, "accuracy": 0.6, "num_examples": 40})


def test_an_answer_that_is_not_a_number(tokenizer: Any) -> None:
    data = ClassificationDataset(examples([1.0, 2.0]), tokenizer, 48, TASKS["stsb"])
    model = bert(tokenizer, num_labels=1)
    with torch.no_grad():
        model.classifier.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="2 of 2 answers are not a number"):
        classify(model, data)
