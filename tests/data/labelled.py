"""Small files of labelled texts in GLUE's formats, and a vocabulary of BERT's kind."""

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from fallow.data.wordpiece import read_wordpiece

WORDS = [
    "good",
    "bad",
    "fine",
    "poor",
    "field",
    "rain",
    "crop",
    "soil",
    "grain",
    "year",
    "the",
    "an",
    "is",
    "was",
    "very",
]
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def vocabulary(folder: Path) -> Path:
    """A vocab.txt: the marks, letters to spell with, and some words."""
    letters = [chr(c) for c in range(97, 123)]
    path = folder / "vocab.txt"
    tokens = [*MARKS, *letters, *(f"##{letter}" for letter in letters), *WORDS, ".", ","]
    path.write_text("\n".join(tokens) + "\n")
    return path


def bert_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return read_wordpiece(vocabulary(folder))


def sst2_rows(num: int, start: int = 0) -> list[tuple[str, int]]:
    """Sentences that are positive when they hold a good word."""
    rows = []
    for i in range(start, start + num):
        mood = (["bad", "poor"], ["good", "fine"])[i % 2][i // 2 % 2]
        rows.append((f"the {WORDS[4 + i % 6]} was {'very ' * (i % 3)}{mood}", i % 2))
    return rows


def write_sst2(path: Path, num: int, start: int = 0) -> Path:
    lines = ["sentence\tlabel", *(f"{text} \t{label}" for text, label in sst2_rows(num, start))]
    path.write_text("\n".join(lines) + "\n")
    return path
