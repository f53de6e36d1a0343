import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from fallow.data import (
    PairData,
    PairDataset,
    TextData,
    TextSource,
    TokenDataset,
    TokenizerSettings,
    open_data,
    open_tokenizer,
    training_texts,
)
from fallow.data.tokenizer import keep_tokenizer, tokenizer_fingerprint
from fallow.errors import UserError
from tests.data.helpers import story


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name, first in (("news", 0), ("tales", 100)):
        rows = [json.dumps({"text": story(first + i)}) for i in range(60)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def text_data(corpus: Path, **changes: Any) -> TextData:
    sources = tuple(TextSource(path=str(corpus / f"{name}.jsonl")) for name in ("news", "tales"))
    return TextData(**{"sources": sources, "context": 32, "valid_share": 0.2, **changes})


def test_text_is_prepared_once_and_opened_again(corpus: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    told: list[tuple[str, int, int]] = []
    splits = open_data(text_data(corpus), tokenizer, corpus / "out", 7, progress=lambda *a: told.append(a))
    assert [name for name, _, _ in splits.train] == ["news", "tales"] == list(splits.valid)
    assert splits.test is None
    counted = splits.report
    assert counted["news-train"]["documents"] + counted["news-valid"]["documents"] == 60
    assert {name for name, _, _ in told} == set(counted)
    assert all(max(d for n, d, _ in told if n == name) == total for name, _, total in told)
    (corpus / "news.jsonl").rename(corpus / "moved.jsonl")
    with pytest.raises(UserError, match="does not exist"):
        open_data(text_data(corpus), tokenizer, corpus / "out")
    again = open_data(text_data(corpus), tokenizer, corpus / "out", 7, prepare=False)
    first, second = splits.mixture(8), again.mixture(8)
    assert first.fingerprint == second.fingerprint
    assert first.next_batches(1)[0].input_ids.equal(second.next_batches(1)[0].input_ids)


def test_other_processes_only_open(corpus: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="Let the first process prepare the data"):
        open_data(text_data(corpus), tokenizer, corpus / "out", prepare=False)
    assert not (corpus / "out").exists()
    with pytest.raises(UserError, match="Let the first process train the tokenizer"):
        open_tokenizer(TokenizerSettings(vocab_size=300), [text_data(corpus)], corpus / "out", prepare=False)


def test_an_altered_shard_stops_the_run_and_a_deleted_one_is_made_again(
    corpus: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    open_data(text_data(corpus), tokenizer, corpus / "out")
    shard = corpus / "out" / "news-train" / "shard-00000.bin"
    good = shard.read_bytes()
    shard.write_bytes(good[:-4] + b"zzzz")
    with pytest.raises(UserError, match="shard 0 of news-train is damaged"):
        open_data(text_data(corpus), tokenizer, corpus / "out")
    assert shard.read_bytes() == good[:-4] + b"zzzz"
    shard.unlink()
    open_data(text_data(corpus), tokenizer, corpus / "out")
    assert shard.read_bytes() == good


def test_changed_text_is_refused(corpus: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    open_data(text_data(corpus), tokenizer, corpus / "out")
    with (corpus / "tales.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "more"}\n')
    with pytest.raises(UserError, match="holds shards of another text"):
        open_data(text_data(corpus), tokenizer, corpus / "out")


def test_prepared_folders_are_sources(
    corpus: Path, tokenizer: PreTrainedTokenizerFast, other_tokenizer: PreTrainedTokenizerFast
) -> None:
    made = open_data(text_data(corpus), tokenizer, corpus / "out")
    source = TextSource(path=str(corpus / "out" / "news-train"))
    opened = open_data(TextData(sources=(source,), context=32), tokenizer, corpus / "elsewhere")
    assert opened.train[0][1].fingerprint == made.train[0][1].fingerprint
    assert not (corpus / "elsewhere").exists()
    with pytest.raises(UserError, match="made with another tokenizer"):
        open_data(TextData(sources=(source,), context=32), other_tokenizer, corpus / "elsewhere")
    with pytest.raises(UserError, match="valid_share has no effect on"):
        open_data(TextData(sources=(source,), context=32, valid_share=0.1), tokenizer, corpus / "elsewhere")
    with pytest.raises(UserError, match="token ids, not text"):
        list(training_texts(TextData(sources=(source,), context=32), corpus))


def test_named_validation_sources(corpus: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    news, tales = (TextSource(path=str(corpus / f"{name}.jsonl"), domain="same") for name in ("news", "tales"))
    splits = open_data(TextData(sources=(news,), valid=(tales,), context=32), tokenizer, corpus / "out")
    valid = splits.valid["same"]
    assert isinstance(valid, TokenDataset)
    assert splits.train[0][1].fingerprint != valid.fingerprint
    assert set(splits.report) == {"same-train", "same-valid"}


def test_a_tokenizer_is_trained_on_training_text_only(corpus: Path) -> None:
    data = text_data(corpus)
    texts = list(training_texts(data, corpus))
    held_out = {story(i) for i in [*range(60), *range(100, 160)]} - set(texts)
    assert 10 < len(held_out) < 50
    assert {texts[0], texts[1]} & {story(i) for i in range(100, 160)}  # sources take turns
    settings = TokenizerSettings(vocab_size=290)
    made = open_tokenizer(settings, [data], corpus / "out")
    assert len(made) == 290
    kept = open_tokenizer(settings, [], corpus / "out", prepare=False)
    assert tokenizer_fingerprint(made) == tokenizer_fingerprint(kept)
    with pytest.raises(UserError, match=r"has 290 tokens, but tokenizer\.vocab_size is 280"):
        open_tokenizer(TokenizerSettings(vocab_size=280), [data], corpus / "out")
    keep_tokenizer(made, corpus / "copy")
    assert len(open_tokenizer(TokenizerSettings(path=str(corpus / "copy")), [], corpus / "unused")) == 290


def test_pairs_of_three_files(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    files = {}
    for role, num in (("train", 20), ("valid", 4), ("test", 6)):
        rows = [json.dumps({"context": f"alpha {i // 2}", "target": f"{role} {i}"}) for i in range(num)]
        files[role] = str(tmp_path / f"{role}.jsonl")
        Path(files[role]).write_text("\n".join(rows), encoding="utf-8")
    splits = open_data(PairData(format="jsonl", context=32, max_pairs=5, **files), tokenizer, tmp_path)
    ((name, train, weight),) = splits.train
    assert isinstance(train, PairDataset)
    assert (name, weight) == ("jsonl", 1.0)
    assert [pair.target for pair in train.pairs] == ["train 0", "train 4", "train 8", "train 12", "train 16"]
    assert len(splits.valid["jsonl"]) == 4
    assert splits.test is not None
    assert [len(references) for _, references in splits.test.groups()] == [2, 2, 2]
    assert splits.report["jsonl-test"]["contexts"] == 3
    assert splits.report["jsonl-train"] | {"tokens": 0, "longest": 0} == {
        "read": 5, "kept": 5, "cut": 0, "dropped": 0, "longest": 0, "tokens": 0, "contexts": 5,
    }  # fmt: skip
    only = open_data(PairData(format="jsonl", context=32, train=files["train"]), tokenizer, tmp_path)
    assert (only.valid, only.test) == ({}, None)
