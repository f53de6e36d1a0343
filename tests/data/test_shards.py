import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from fallow.data.documents import Document
from fallow.data.index import Index
from fallow.data.shards import Shards, write_shards
from fallow.data.tokenizer import encode_batch
from fallow.data.tokens import TokenDataset
from fallow.errors import UserError
from tests.data.helpers import story

DOCUMENTS = [Document(f"story {i}", story(i, 20 + i)) for i in range(30)]


def write(folder: Path, tokenizer: PreTrainedTokenizerFast, documents: Any = DOCUMENTS, **changes: Any) -> Index:
    options = {"name": "stories", "source": "s1", "shard_tokens": 1000, **changes}
    return write_shards(documents, tokenizer, folder, **options)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    write(tmp_path / "shards", tokenizer)
    return tmp_path / "shards"


def expected(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    joined: list[int] = []
    for ids in encode_batch(tokenizer, [document.text for document in DOCUMENTS]):
        joined += [*ids, tokenizer.eos_token_id]
    return joined


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_hold_the_documents_with_end_tokens(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    shards = Shards(folder)
    tokens = expected(tokenizer)
    assert len(shards.index.shards) > 3
    assert shards.index.num_documents == 30
    assert shards.index.dtype == "uint16"
    assert shards.read(0, len(shards)).tolist() == tokens
    for start, stop in ((0, 1), (995, 1800), (990, 2500), (len(tokens) - 3, len(tokens))):
        assert shards.read(start, stop).tolist() == tokens[start:stop]


def test_samples_are_neighbouring_and_shifted(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    data = TokenDataset(Shards(folder), 64)
    tokens = np.array(expected(tokenizer))
    assert len(data) == (len(tokens) - 1) // 64
    for index in range(len(data)):
        inputs, labels = data.sample(index)
        assert inputs.tolist() == tokens[index * 64 : index * 64 + 64].tolist()
        assert labels.tolist() == tokens[index * 64 + 1 : index * 64 + 65].tolist()
    assert data.boundaries(0) == np.flatnonzero(tokens[:64] == tokenizer.eos_token_id).tolist()
    with pytest.raises(IndexError):
        data.sample(len(data))
    assert data.fingerprint != TokenDataset(Shards(folder), 32).fingerprint


def test_a_text_shorter_than_the_context(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    write(tmp_path, tokenizer, [Document("one", "ab")])
    with pytest.raises(UserError, match=r"stories has 3 tokens, less than one sequence of 16"):
        TokenDataset(Shards(tmp_path), 16)


def test_large_vocabularies_take_four_bytes(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: Any
) -> None:
    monkeypatch.setattr(type(tokenizer), "__len__", lambda _: 70_000)
    assert write(tmp_path, tokenizer).dtype == "uint32"
    assert Shards(tmp_path).read(0, 5).tolist() == expected(tokenizer)[:5]


def test_a_second_call_reads_nothing(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    def never() -> Iterator[Document]:
        raise AssertionError("read again")
        yield

    before = contents(folder)
    write(folder, tokenizer, never())
    assert contents(folder) == before


@pytest.mark.parametrize("after", [0, 1, 7, 12, 29])
def test_an_interrupted_call_is_continued(
    tmp_path: Path, folder: Path, tokenizer: PreTrainedTokenizerFast, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.data.shards._BATCH_CHARACTERS", 100)

    def broken() -> Iterator[Document]:
        yield from DOCUMENTS[:after]
        raise KeyboardInterrupt

    other = tmp_path / "other"
    with pytest.raises(KeyboardInterrupt):
        write(other, tokenizer, broken())
    if (other / "index.json").exists():
        with pytest.raises(UserError, match="is not complete"):
            Shards(other)
    assert not list(other.glob(".*"))
    write(other, tokenizer)
    assert contents(other) == contents(folder)


def test_damaged_shards_are_made_again_and_good_ones_kept(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    before = contents(folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "shard-00001.bin").write_bytes(b"x" * len(before["shard-00001.bin"]))
    (folder / "shard-00002.bin").unlink()
    write(folder, tokenizer)
    assert contents(folder) == before
    assert (folder / "shard-00000.bin").stat().st_mtime_ns == times["shard-00000.bin"]
    assert (folder / "shard-00001.bin").stat().st_mtime_ns != times["shard-00001.bin"]


def test_truncated_and_altered_shards_are_refused(folder: Path) -> None:
    path = folder / "shard-00003.bin"
    raw = path.read_bytes()
    rest = len(list(folder.glob("*.bin"))) - 1
    path.write_bytes(raw[:-2])
    with pytest.raises(
        UserError, match=rf"shard 3 of stories is damaged \(.* bytes, expected .*other {rest} shards are"
    ):
        Shards(folder, checksum=False)
    path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    Shards(folder, checksum=False)
    with pytest.raises(UserError, match=r"shard 3 of stories is damaged \(checksum ....\.\.\., expected ....\.\.\.\)"):
        Shards(folder)


def test_other_text_and_other_tokenizers_are_refused(
    folder: Path, tokenizer: PreTrainedTokenizerFast, other_tokenizer: PreTrainedTokenizerFast
) -> None:
    before = contents(folder)
    with pytest.raises(UserError, match=r"another tokenizer .*300 tokens; this one is .*280 tokens"):
        write(folder, other_tokenizer)
    with pytest.raises(UserError, match="holds shards of another text"):
        write(folder, tokenizer, source="s2")
    with pytest.raises(UserError, match="another tokenizer"):
        Shards(folder).check_tokenizer(other_tokenizer)
    Shards(folder).check_tokenizer(tokenizer)
    assert contents(folder) == before


def test_damaged_indices(folder: Path) -> None:
    index = folder / "index.json"
    good = index.read_text(encoding="utf-8")
    for text, message in [
        (good[:50], "is damaged"),
        ("[]", "is damaged"),
        (good.replace('"format": 2', '"format": 3'), "is of format 3, but this fallow reads format 2"),
    ]:
        index.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            Shards(folder)
    index.unlink()
    with pytest.raises(UserError, match="holds no token shards"):
        Shards(folder)


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def full(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # two shards and their index are written, the next shard is not
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        write(tmp_path, tokenizer)
    assert not list(tmp_path.glob(".*"))
    monkeypatch.undo()
    kept = contents(tmp_path)
    assert "shard-00000.bin" in kept
    write(tmp_path, tokenizer)
    assert Shards(tmp_path).read(0, 50).tolist() == expected(tokenizer)[:50]


def test_progress_counts_every_character(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    told: list[int] = []
    write(tmp_path, tokenizer, progress=told.append)
    assert sum(told) == sum(len(document.text) for document in DOCUMENTS)
    with pytest.raises(UserError, match="stories holds no text"):
        write(tmp_path / "empty", tokenizer, [])
