"""Making the shards of a source, and continuing where an earlier attempt ended."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fallow.data.documents import Part
from fallow.data.index import INDEX, Index
from fallow.data.settings import TextSource
from fallow.data.shards import Shards, write_shards
from fallow.data.sources import read_source, source_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Progress = Callable[[str, int, int], None]
"""Called with (what, characters done so far, characters in all)."""


def refuse_altered(folder: Path, *, checksum: bool) -> bool:
    """A shard that was complete and has changed since is a matter to look into, not to paint over.

    Returns:
        Whether all shards are there, and good.

    Raises:
        UserError: a shard of a complete folder is there but damaged. A missing one is simply made again.
    """
    if not _is_complete(folder):
        return False
    Shards(folder, checksum=checksum)
    return True


def prepare_source(
    source: TextSource,
    part: Part,
    valid_share: float,
    tokenizer: "PreTrainedTokenizerFast",
    folder: Path,
    name: str,
    progress: Progress | None = None,
    *,
    checksum: bool = True,
) -> Index:
    """Tokenise one side of a source into `folder`; what is there and good is kept.

    Raises:
        UserError: see `write_shards` and `read_source`.
    """
    total = done = 0

    def tell(characters: int) -> None:
        nonlocal done, total
        if progress is not None:
            # Reading once more takes a small part of the time of tokenising, and only happens when there is work.
            total = total or sum(len(document.text) for document in read_source(source, part, valid_share))
            done += characters
            progress(name, done, total)

    return write_shards(
        read_source(source, part, valid_share),
        tokenizer,
        folder,
        name=name,
        source=source_fingerprint(source, part, valid_share),
        checksum=checksum,
        progress=tell,
    )


def _is_complete(folder: Path) -> bool:
    if not (folder / INDEX).exists():
        return False
    index = Index.read(folder)
    return index.complete and all((folder / shard.file).exists() for shard in index.shards)
