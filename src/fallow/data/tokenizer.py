"""Tokenizers: train a byte-level BPE, load any Hugging Face one, and tell two apart."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fallow.data.settings import TokenizerSettings
from fallow.data.wordpiece import read_wordpiece
from fallow.errors import UserError, first_line
from fallow.files import write_folder, write_sealed
from fallow.integrity import FORMAT, TOKENIZER_RECORD, check_tokenizer, checksum, listing
from fallow.stock import read_tokenizer, tokenizing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END, PAD, SEPARATOR = "<|endoftext|>", "<|pad|>", "<|sep|>"
_MAX_BYTES = 8_000_000  # merges hardly change beyond; keeps training to seconds


def train_tokenizer(settings: TokenizerSettings, texts: Iterable[str], folder: Path) -> "PreTrainedTokenizerFast":
    """Train a byte-level BPE (as GPT-2's) and save it as a Hugging Face folder.

    Every byte is a token, so nothing is ever unknown. Special tokens: <|endoftext|> (end and separator of documents),
    <|pad|> and <|sep|>. The same texts give the same tokenizer, on any machine. At most 8 MB are looked at, in order:
    pass texts that are already spread over the corpus.

    Args:
        settings: `vocab_size` counts everything, special tokens included.
        texts: the training text.
        folder: where `AutoTokenizer.from_pretrained` will find it.

    Raises:
        UserError: too little text for the vocabulary asked for.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=[END, PAD, SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_limited(texts), trainer)
    if backend.get_vocab_size() < settings.vocab_size:
        found = backend.get_vocab_size()
        raise UserError(
            f"tokenizer.vocab_size is {settings.vocab_size}, but the text only gives {found} tokens. "
            f"Write {max(found // 64 * 64, 260)} or less, or use more text."
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=END, eos_token=END, pad_token=PAD, sep_token=SEPARATOR
    )
    _save_whole(tokenizer, folder)
    return load_tokenizer(str(folder))


def load_tokenizer(path: str, *, end: bool = True) -> "PreTrainedTokenizerFast":
    """A tokenizer from a Hugging Face folder, a WordPiece vocabulary of BERT's kind (vocab.txt, also .gz), or the Hub.

    Args:
        path: folder, vocabulary, or name on the Hub.
        end: whether an end token is needed, as text and pairs do. BERT's tokenizers have none.

    Raises:
        UserError: nothing is there, it is not a fast one, or it has no end token.
    """
    from transformers import PreTrainedTokenizerFast

    local = Path(path).is_dir()
    check_tokenizer(path)
    if path.endswith((".txt", ".txt.gz")):
        return _checked(read_wordpiece(Path(path)), path, end=end)
    if _holds_only_words(Path(path)):
        return _checked(read_wordpiece(Path(path, "vocab.txt")), path, end=end)
    if not local and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise UserError(f"tokenizer folder {path} does not exist.")
    if local and not any(
        Path(path, name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    ):
        raise UserError(f"{path} holds no tokenizer (no tokenizer.json). Name the folder of a Hugging Face model.")
    try:
        tokenizer = read_tokenizer(path)
    except UserError:
        raise
    except Exception as error:  # transformers and its network layers raise many kinds
        first = first_line(error)
        where = "" if local else " It is no local folder, so the Hub was asked."
        raise UserError(f"tokenizer {path} could not be loaded: {first}{where}") from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(
            f"tokenizer {path} is not a fast one (of the tokenizers library). Convert it to tokenizer.json."
        )
    return _checked(tokenizer, path, end=end)


def _holds_only_words(folder: Path) -> bool:
    known = ("tokenizer.json", "tokenizer_config.json", "config.json")
    return Path(folder, "vocab.txt").is_file() and not any(Path(folder, name).exists() for name in known)


def _checked(tokenizer: "PreTrainedTokenizerFast", path: str, *, end: bool) -> "PreTrainedTokenizerFast":
    if end and tokenizer.eos_token_id is None:
        raise UserError(
            f"tokenizer {path} has no end token (eos_token), which separates documents. Set one in its config."
        )
    return tokenizer


def keep_tokenizer(tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    """Save a copy of a tokenizer beside the shards it made; one that is there already has to be the same.

    Raises:
        UserError: the folder holds another tokenizer.
    """
    if not folder.exists():
        _save_whole(tokenizer, folder)
    elif tokenizer_fingerprint(load_tokenizer(str(folder))) != tokenizer_fingerprint(tokenizer):
        raise UserError(f"{folder} holds another tokenizer. Use another output folder, or delete this one.")


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerFast") -> str:
    """Changes when any text would be encoded otherwise. Padding and truncation settings do not count."""
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    facts.pop("padding", None)
    facts.pop("truncation", None)
    facts["eos"] = tokenizer.eos_token_id
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "tokenizer.model", "chat_template.jinja",
)  # fmt: skip


def tokenizer_facts(tokenizer: "PreTrainedTokenizerFast", path: str | Path) -> str:
    """A checksum of a tokenizer and of its files, which say more than how text is encoded: templates, special tokens.

    Args:
        tokenizer: as it was loaded.
        path: its folder or vocabulary; a name on the Hub has no files here.
    """
    place = Path(path)
    files = [place / name for name in _FILES] if place.is_dir() else [place]
    known = {file.name: checksum(file) for file in files if file.is_file()}
    return hashlib.sha256(json.dumps([tokenizer_fingerprint(tokenizer), known]).encode()).hexdigest()


def encode_batch(tokenizer: "PreTrainedTokenizerFast", texts: list[str]) -> list[list[int]]:
    """Token ids of texts, nothing added or cut; in parallel over the texts."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    with tokenizing():
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def _limited(texts: Iterable[str]) -> Iterator[str]:
    size = 0
    for text in texts:
        yield text
        size += len(text)
        if size >= _MAX_BYTES:
            return


def _save_whole(tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    with write_folder(folder) as temporary:
        tokenizer.save_pretrained(temporary)
        write_sealed(temporary / TOKENIZER_RECORD, {"format": FORMAT, "files": listing(temporary)})
