"""BERT's tokenizer from its vocabulary file alone."""

from pathlib import Path
from typing import TYPE_CHECKING

from fallow.errors import UserError
from fallow.unpack import read_lines

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def read_wordpiece(path: Path) -> "PreTrainedTokenizerFast":
    """The tokenizer of BERT (Devlin et al., 2019) for a vocabulary: one token a line, its number is its line from 0.

    Text is put in lower case, without accents, when no token has a capital letter: that is an uncased vocabulary.

    Args:
        path: vocab.txt, plain or .gz.

    Raises:
        UserError: absent, empty, not UTF-8, a token twice, or without one of BERT's marks.
    """
    from transformers import BertTokenizerFast

    if not path.is_file():
        raise UserError(f"tokenizer vocabulary {path} does not exist.")
    vocabulary: dict[str, int] = {}
    for number, line in read_lines(path):
        token = line.rstrip("\r\n")
        if token in vocabulary:
            raise UserError(f"{path}:{number} repeats the token {token!r} of line {vocabulary[token] + 1}.")
        vocabulary[token] = number - 1
    missing = [mark for mark in _MARKS if mark not in vocabulary]
    if missing:
        raise UserError(f"{path} is no vocabulary of BERT: it has no {missing[0]}. Name its vocab.txt.")
    lower = all(token == token.lower() for token in vocabulary if not token.startswith("["))
    tokenizer: PreTrainedTokenizerFast = BertTokenizerFast(vocab=vocabulary, do_lower_case=lower)
    return tokenizer
