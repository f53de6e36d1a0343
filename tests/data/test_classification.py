"""Encoded labelled texts. Oracle: the tokenizers' own call with `truncation=True`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from fallow.data import ClassificationData, ClassificationDataset, Mixture, TokenizerSettings, open_data, open_tokenizer
from fallow.data.formats.glue import Example
from fallow.data.task import TASKS
from fallow.errors import UserError
from tests.data.labelled import bert_tokenizer, vocabulary, write_sst2

PAIRS = [
    Example("the field was very good", "rain is fine", 0),
    Example("bad", "the crop was poor, the soil was bad", 1),
    Example("an year", "the grain", 1),
]
RTE = TASKS["rte"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return bert_tokenizer(tmp_path_factory.mktemp("bert"))


def test_marks_types_and_padding_are_those_of_the_tokenizer(bert: PreTrainedTokenizerFast) -> None:
    data = ClassificationDataset(PAIRS, bert, 32, RTE)
    batch = data.collate([data.sample(i) for i in range(3)], ids=("a", "b", "c"))
    expected = bert([e.first for e in PAIRS], [e.second for e in PAIRS], padding=True, return_tensors="pt")
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])
    assert batch.token_type_ids is not None and torch.equal(batch.token_type_ids, expected["token_type_ids"])
    assert batch.labels.tolist() == [0, 1, 1] and batch.labels.dtype == torch.int64
    assert (batch.num_valid, batch.num_tokens) == (3, expected["input_ids"].numel())
    assert data.num_tokens == int(expected["attention_mask"].sum())
    moved = batch.to("cpu")
    assert moved.ids == ("a", "b", "c") and torch.equal(moved.token_type_ids, batch.token_type_ids)


@pytest.mark.parametrize("context", [7, 9, 12])
def test_cut_is_longest_first(bert: PreTrainedTokenizerFast, context: int) -> None:
    data = ClassificationDataset(PAIRS, bert, context, RTE, overflow="cut")
    for i, example in enumerate(PAIRS):
        expected = bert(example.first, example.second, truncation=True, max_length=context)
        assert data.sample(i).tokens.tolist() == expected["input_ids"]
        assert data.sample(i).types.tolist() == expected["token_type_ids"]
    lengths = [len(bert(e.first, e.second)["input_ids"]) for e in PAIRS]
    assert data.report.cut == sum(length > context for length in lengths)
    assert data.report.longest == max(lengths)


def test_without_a_template_end_tokens_mark_the_texts(tokenizer: PreTrainedTokenizerFast) -> None:
    end = tokenizer.eos_token_id
    data = ClassificationDataset(PAIRS, tokenizer, 64, RTE)
    a, b = (tokenizer(text)["input_ids"] for text in (PAIRS[0].first, PAIRS[0].second))
    assert data.sample(0).tokens.tolist() == [end, *a, end, *b]
    assert not data.has_types and data.collate([data.sample(0)]).token_type_ids is None
    short = ClassificationDataset(PAIRS, tokenizer, 10, RTE, overflow="cut")
    assert len(short.sample(1).tokens) == 10
    assert short.sample(1).tokens.tolist().count(end) == 2
    single = ClassificationDataset([Example("good", "", 1)], tokenizer, 32, TASKS["sst2"])
    assert single.sample(0).tokens.tolist() == [end, *tokenizer("good")["input_ids"]]


def test_longer_ones_stop_or_are_dropped(bert: PreTrainedTokenizerFast) -> None:
    with pytest.raises(
        UserError, match=r"1 of 3 examples of dev are longer than the context of 12 tokens: the longest"
    ):
        ClassificationDataset(PAIRS, bert, 12, RTE, name="dev")
    data = ClassificationDataset(PAIRS, bert, 12, RTE, overflow="drop")
    assert (len(data), data.report.dropped, data.report.kept) == (2, 1, 2)
    assert data.examples == (PAIRS[0], PAIRS[2])
    with pytest.raises(UserError, match="no example that fits"):
        ClassificationDataset(PAIRS, bert, 5, RTE, overflow="drop")


def test_values_are_float_labels(bert: PreTrainedTokenizerFast) -> None:
    data = ClassificationDataset([Example("good", "fine", 4.25)], bert, 16, TASKS["stsb"])
    assert data.collate([data.sample(0)]).labels.dtype == torch.float32
    assert data.collate([data.sample(0)]).labels.tolist() == [4.25]


def test_the_fingerprint_sees_labels(bert: PreTrainedTokenizerFast) -> None:
    other = [*PAIRS[:2], Example(PAIRS[2].first, PAIRS[2].second, 0)]
    prints = {ClassificationDataset(e, bert, 32, RTE).fingerprint for e in (PAIRS, PAIRS, other)}
    assert len(prints) == 2


def test_settings_to_batches(tmp_path: Path) -> None:
    train, dev = write_sst2(tmp_path / "train.tsv", 20), write_sst2(tmp_path / "dev.tsv", 6, start=20)
    settings = ClassificationData(
        task="sst2", train=(str(train), str(dev)), valid=(str(dev), str(dev)), test=(str(dev),), context=16, max_valid=5
    )
    words = open_tokenizer(TokenizerSettings(path=str(vocabulary(tmp_path))), [settings], tmp_path)
    splits = open_data(settings, words, tmp_path, seed=3)
    assert (len(splits.train[0][1]), len(splits.valid["sst2"])) == (26, 5)
    assert splits.test is not None and len(splits.test) == 5
    assert splits.report["sst2-train"]["kept"] == 26 and splits.report["sst2-train"]["left_out"] == 0
    mixture: Mixture = splits.mixture(8)
    [batch] = mixture.next_batches(1)
    assert batch.labels.shape == (8,) and int(batch.attention_mask[0].sum()) <= 16
    seen = np.concatenate([mixture.next_batches(1)[0].labels for _ in range(12)])
    assert set(seen.tolist()) == {0, 1}


def test_mnli_has_two_held_out_sets(tmp_path: Path) -> None:
    header = "sentence1\tsentence2\tgold_label\n"
    for name, label in (("m", "neutral"), ("mm", "entailment")):
        (tmp_path / f"{name}.tsv").write_text(f"{header}good\tbad\t{label}\n")
    m, mm = str(tmp_path / "m.tsv"), str(tmp_path / "mm.tsv")
    settings = ClassificationData(task="mnli", train=(m, mm), valid=(m,), mismatched=(mm,), context=16)
    splits = open_data(settings, bert_tokenizer(tmp_path), tmp_path)
    assert list(splits.valid) == ["matched", "mismatched"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": ()}, "train is empty"),
        ({"mismatched": ("x",)}, "mismatched has no effect with task rte"),
        ({"context": 1}, "context is 1"),
        ({"max_valid": -1}, "max_valid is -1"),
        ({"valid": ("",)}, "valid holds an empty name"),
        ({"task": "rtee"}, 'Did you mean "rte"'),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ClassificationData(**{"task": "rte", "train": ("a",), "context": 16, **changes})  # type: ignore[arg-type]


def test_text_and_pairs_need_an_end_token_and_labels_do_not(tmp_path: Path) -> None:
    from fallow.data import PairData

    settings = TokenizerSettings(path=str(vocabulary(tmp_path)))
    labels = ClassificationData(task="rte", train=("a",), context=16)
    pairs = PairData(format="jsonl", train="b", context=16)
    assert open_tokenizer(settings, [labels], tmp_path).eos_token_id is None
    with pytest.raises(UserError, match="has no end token"):
        open_tokenizer(settings, [labels, pairs], tmp_path)
