"""Token shards: text once tokenised, written to files that are mapped into memory instead of read."""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fallow.data.documents import Document
from fallow.data.index import INDEX, Index, Shard, shard_file
from fallow.data.tokenizer import encode_batch, tokenizer_fingerprint
from fallow.errors import UserError
from fallow.files import atomic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Encoded = tuple[NDArray[np.unsignedinteger], int]
"""Token ids of a document with the end token behind, and the UTF-8 bytes of its text."""

Progress = Callable[[int], None]
"""Called with the number of characters tokenised or skipped since the last call."""

SHARD_TOKENS = 1 << 26
_BATCH_CHARACTERS = 1 << 20


def write_shards(
    documents: Iterable[Document],
    tokenizer: "PreTrainedTokenizerFast",
    folder: Path,
    *,
    name: str,
    source: str,
    shard_tokens: int = SHARD_TOKENS,
    checksum: bool = True,
    progress: Progress = lambda _: None,
) -> Index:
    """Tokenise documents into shards in `folder`, or finish what an earlier call began there.

    A shard holds whole documents, each followed by the end token. Shards that are there and good are kept without
    tokenising again, damaged and missing ones are made anew. A shard appears under its name only when it is complete.

    Args:
        documents: the same ones, in the same order, at every call.
        tokenizer: with an end token.
        folder: for this source alone.
        name: of the source, for messages.
        source: fingerprint of the documents.
        shard_tokens: a shard ends with the document that reaches this size.
        checksum: compare the bytes of shards that are there, not only their sizes.
        progress: is told how many characters were done.

    Raises:
        UserError: the folder holds shards of another text or tokenizer; there is no text; the disk is full.
    """
    index = _begin(tokenizer, folder, name, source)
    good = [not index.damage(folder, number, checksum=checksum) for number in range(len(index.shards))]
    if index.complete and all(good):
        return index
    stream = iter(documents)
    for number, shard in enumerate(index.shards):
        mine = islice(stream, shard.num_documents)
        if good[number]:
            for document in mine:
                progress(len(document.text))
        else:
            encoded = _encode(mine, tokenizer, index, progress)
            index = index.with_shard(number, _write_shard(encoded, folder, number, index, limit=None))
            index.write(folder)
    encoded = _encode(stream, tokenizer, index, progress)
    for first in encoded:  # each turn takes one document to begin a shard, and the shard takes the rest it needs
        number = len(index.shards)
        index = index.with_shard(number, _write_shard(chain([first], encoded), folder, number, index, shard_tokens))
        index.write(folder)
    if not index.shards:
        raise UserError(f"{name} holds no text. Check its path, field, and valid_share.")
    if lost := [shard.file for shard in index.shards if not (folder / shard.file).is_file()]:
        raise UserError(f"{folder / lost[0]} vanished while shards were being made. Run the same command again")
    index = replace(index, complete=True)
    index.write(folder)
    return index


class Shards:
    """Token ids of a folder of shards as one long array that is never read as a whole.

    Args:
        folder: written by `write_shards` or `fallow prepare`.
        checksum: also compare the bytes with their checksums (about a second a gigabyte); sizes always are.

    Raises:
        UserError: a shard is damaged or missing, or the folder is not complete.
    """

    def __init__(self, folder: Path, *, checksum: bool = True) -> None:
        self.folder, self.index = folder, Index.read(folder)
        index = self.index
        if not index.complete:
            raise UserError(
                f"{index.name} in {folder} is not complete: {len(index.shards)} shards are done. "
                "Run fallow prepare again; they will be kept."
            )
        bad = {n: text for n in range(len(index.shards)) if (text := index.damage(folder, n, checksum=checksum))}
        if bad:
            number, text = next(iter(bad.items()))
            rest = len(index.shards) - len(bad)
            more = f" So are {len(bad) - 1} more." if len(bad) > 1 else ""
            kept = f"; the other {rest} shards are good and will be kept" if rest else ""
            raise UserError(
                f"shard {number} of {index.name} is damaged ({text}).{more} "
                f"Delete {folder / index.shards[number].file} and run the same command, or fallow prepare, again{kept}."
            )
        self._maps = [
            np.memmap(folder / s.file, dtype=np.dtype(index.dtype).newbyteorder("<"), mode="r") for s in index.shards
        ]
        self._starts = np.cumsum([0] + [shard.num_tokens for shard in index.shards]).tolist()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def check_tokenizer(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        """Refuse a tokenizer that did not make these shards.

        Raises:
            UserError: its fingerprint differs.
        """
        _same_tokenizer(self.index, tokenizer, self.folder)

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Token ids start to stop (exclusive), across shards where needed."""
        parts = []
        number = bisect_right(self._starts, start) - 1
        while start < stop:
            offset = self._starts[number]
            end = min(stop, self._starts[number + 1])
            parts.append(self._maps[number][start - offset : end - offset])
            start, number = end, number + 1
        return np.concatenate(parts).astype(np.int64)


def _begin(tokenizer: "PreTrainedTokenizerFast", folder: Path, name: str, source: str) -> Index:
    if (folder / INDEX).exists():
        index = Index.read(folder)
        _same_tokenizer(index, tokenizer, folder)
        if index.source != source:
            raise UserError(
                f"{folder} holds shards of another text: the files, the selection or the split of {name} have changed "
                "since. Use another output folder, or delete this one."
            )
        return index
    size = len(tokenizer)
    eos = tokenizer.eos_token_id
    assert isinstance(eos, int)  # load_tokenizer refuses one without
    dtype = "uint16" if size <= 1 << 16 else "uint32"
    return Index(
        name=name, dtype=dtype, tokenizer=tokenizer_fingerprint(tokenizer), vocab_size=size, eos=eos, source=source
    )


def _same_tokenizer(index: Index, tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    found = tokenizer_fingerprint(tokenizer)
    if found != index.tokenizer:
        raise UserError(
            f"{folder} was made with another tokenizer ({index.tokenizer}, {index.vocab_size:,} tokens; this one is "
            f"{found}, {len(tokenizer):,} tokens). Name the tokenizer it was made with, or use another output folder."
        )


def _encode(
    documents: Iterable[Document], tokenizer: "PreTrainedTokenizerFast", index: Index, progress: Progress
) -> Iterator[Encoded]:
    """Documents tokenised about 1 MB at a time."""
    dtype = np.dtype(index.dtype).newbyteorder("<")
    waiting: list[str] = []
    size = 0

    def flush() -> Iterator[Encoded]:
        for text, ids in zip(waiting, encode_batch(tokenizer, waiting), strict=True):
            ids.append(index.eos)
            yield np.array(ids, dtype=dtype), len(text.encode("utf-8", "surrogatepass"))

    for document in documents:
        waiting.append(document.text)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS:
            yield from flush()
            progress(size)
            waiting, size = [], 0
    if waiting:
        yield from flush()
        progress(size)


def _write_shard(encoded: Iterable[Encoded], folder: Path, number: int, index: Index, limit: int | None) -> Shard:
    file = shard_file(number)
    digest = hashlib.sha256()
    num_tokens = num_documents = text_bytes = 0
    with atomic(folder / file) as temporary, temporary.open("wb") as out:
        for ids, size in encoded:
            raw = ids.tobytes()
            out.write(raw)
            digest.update(raw)
            num_tokens, num_documents, text_bytes = num_tokens + len(ids), num_documents + 1, text_bytes + size
            if limit is not None and num_tokens >= limit:
                break
        out.flush()
    return Shard(file, num_tokens, num_documents, digest.hexdigest(), text_bytes)
