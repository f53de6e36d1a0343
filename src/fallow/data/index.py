"""The JSON index beside token shards: what they hold, how they were made, and how to tell a damaged one."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from fallow.errors import UserError
from fallow.files import file_sha256, read_sealed, write_sealed

INDEX = "index.json"
_KIND, _FORMAT = "fallow-tokens", 2


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of token ids.

    Attributes:
        file: its name in the folder.
        num_tokens: token ids in it, end tokens included.
        num_documents: whole documents in it, each followed by one end token.
        sha256: of the file.
        text_bytes: UTF-8 bytes of the documents; 0 in shards that were made before this was counted.
    """

    file: str
    num_tokens: int
    num_documents: int
    sha256: str
    text_bytes: int = 0


def shard_file(number: int) -> str:
    """The name of a shard."""
    return f"shard-{number:05d}.bin"


@dataclass(frozen=True, slots=True)
class Index:
    """What a folder of shards holds.

    Attributes:
        name: of the source, for messages.
        dtype: `uint16` or `uint32`, little-endian.
        tokenizer: fingerprint of the tokenizer.
        vocab_size: ids are below it.
        eos: the end token that follows every document.
        source: fingerprint of the text and its selection.
        complete: false while shards are still being made.
        shards: in the order of the text.
    """

    name: str
    dtype: str
    tokenizer: str
    vocab_size: int
    eos: int
    source: str
    complete: bool = False
    shards: tuple[Shard, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Token ids in all shards."""
        return sum(shard.num_tokens for shard in self.shards)

    @property
    def num_documents(self) -> int:
        """Documents in all shards."""
        return sum(shard.num_documents for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards."""
        return self.num_tokens * np.dtype(self.dtype).itemsize

    @property
    def num_text_bytes(self) -> int:
        """UTF-8 bytes of the text in all shards; 0 when it is not known of one of them."""
        sizes = [shard.text_bytes for shard in self.shards]
        return sum(sizes) if all(sizes) else 0

    def with_shard(self, number: int, shard: Shard) -> "Index":
        """The index with one shard replaced or appended."""
        return replace(self, shards=(*self.shards[:number], shard, *self.shards[number + 1 :]))

    def write(self, folder: Path) -> None:
        """Write it whole, with a checksum of itself: a reader sees the old index or this one."""
        write_sealed(folder / INDEX, {"kind": _KIND, "format": _FORMAT, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> "Index":
        """Read the index of a folder.

        Raises:
            UserError: it is absent, changed, or of another fallow.
        """
        path = folder / INDEX
        if not path.exists():
            raise UserError(f"{folder} holds no token shards (no {INDEX}). Make them with fallow prepare.")
        again = f"Delete {folder}, and the same command, or fallow prepare, makes it again."
        facts = read_sealed(path, again, form=_FORMAT)
        try:
            del facts["format"], facts["kind"]
            facts["shards"] = tuple(Shard(**shard) for shard in facts["shards"])
            return cls(**facts)._checked()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path} is damaged. {again}") from None

    def _checked(self) -> "Index":
        """Itself, when what was read makes sense: the files are mapped into memory by these numbers."""
        known = self.dtype in ("uint16", "uint32") and isinstance(self.vocab_size, int) and isinstance(self.eos, int)
        for number, shard in enumerate(self.shards):
            counts = (shard.num_tokens, shard.num_documents)
            known &= shard.file == shard_file(number) and all(isinstance(count, int) and count > 0 for count in counts)
            known &= isinstance(shard.text_bytes, int) and shard.text_bytes >= 0
        if not known or (self.complete and not self.shards):
            raise ValueError("not an index that fallow wrote")
        return self

    def damage(self, folder: Path, number: int, *, checksum: bool = True) -> str:
        """What is wrong with a shard, or an empty string. Its size is always looked at, its bytes with `checksum`."""
        shard = self.shards[number]
        path = folder / shard.file
        if not path.exists():
            return f"{path} is missing"
        size, expected = path.stat().st_size, shard.num_tokens * np.dtype(self.dtype).itemsize
        if size != expected:
            return f"{size:,} bytes, expected {expected:,}"
        if checksum and (found := file_sha256(path)) != shard.sha256:
            return f"checksum {found[:4]}..., expected {shard.sha256[:4]}..."
        return ""
