"""BERT's tokenizer from a vocabulary. Oracle: transformers' BertTokenizer on the published uncased vocabulary."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from fallow.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from fallow.data.wordpiece import read_wordpiece
from fallow.errors import UserError
from tests.data.labelled import MARKS, vocabulary


def test_file_folder_and_gzip_give_the_same(tmp_path: Path) -> None:
    path = vocabulary(tmp_path)
    (tmp_path / "vocab.txt.gz").write_bytes(gzip.compress(path.read_bytes()))
    one, two, three = (load_tokenizer(str(p), end=False) for p in (path, tmp_path / "vocab.txt.gz", tmp_path))
    assert len({tokenizer_fingerprint(t) for t in (one, two, three)}) == 1
    assert one.convert_ids_to_tokens(one("The RAIN was good.", "A crop")["input_ids"]) == [
        "[CLS]", "the", "rain", "was", "good", ".", "[SEP]", "a", "crop", "[SEP]",
    ]  # fmt: skip
    one.save_pretrained(tmp_path / "saved")
    assert tokenizer_fingerprint(AutoTokenizer.from_pretrained(tmp_path / "saved")) == tokenizer_fingerprint(one)


def test_capitals_in_the_vocabulary_keep_case(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*MARKS, "Rain", "rain", "caf\u00e9"]) + "\n")
    tokens = read_wordpiece(path).tokenize("Rain rain caf\u00e9 cafe")
    assert tokens == ["Rain", "rain", "caf\u00e9", "[UNK]"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [([*MARKS, "a", "a"], ":7 repeats the token 'a' of line 6"), (["a", "b"], r"it has no \[PAD\]")],
)
def test_what_is_no_vocabulary(lines: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=message):
        read_wordpiece(path)
    with pytest.raises(UserError, match="does not exist"):
        load_tokenizer(str(tmp_path / "absent" / "vocab.txt"), end=False)


def test_the_published_vocabulary(shared: Callable[[str], Path]) -> None:
    path = shared("../models/bert-uncased-vocab/vocab.txt.gz")
    tokenizer = read_wordpiece(path)
    assert len(tokenizer) == 30522
    assert tokenizer("H\u00e9llo World's unaffable")["input_ids"] == [
        101, 7592, 2088, 1005, 1055, 14477, 20961, 3468, 102,
    ]  # fmt: skip
