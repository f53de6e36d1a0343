"""Documents: the unit that is read, held out and separated by the end token."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Part = Literal["all", "train", "valid"]
"""Which side of the split: everything, what is trained on, what is held out."""


@dataclass(frozen=True, slots=True)
class Document:
    """A piece of text with a name.

    Attributes:
        name: for messages, such as `corpus/a.jsonl:17` or `asyncio.events`.
        text: never empty.
        domain: a finer division of its source, such as the package of a module.
        key: what decides the side of the split; empty takes the text itself.
    """

    name: str
    text: str
    domain: str = ""
    key: str = ""

    @property
    def place(self) -> float:
        """A number in [0, 1) that belongs to this document wherever it is met."""
        return place_of(self.key or self.text)


def place_of(key: str) -> float:
    """A number in [0, 1) made from a text, the same on every machine and in every release.

    >>> round(place_of("asyncio.events"), 3) == round(place_of("asyncio.events"), 3)
    True
    """
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=b"fallow held-out").digest()
    return int.from_bytes(digest[:7], "little") / 2**56


def on_side(documents: Iterable[Document], part: Part, valid_share: float) -> Iterator[Document]:
    """The documents of one side: held out are those whose place is below `valid_share`."""
    for document in documents:
        if part == "all" or (document.place < valid_share) == (part == "valid"):
            yield document


def spread(read: Callable[[], Iterable[Document]], max_megabytes: float) -> Iterator[Document]:
    """Documents spread evenly over a source, about `max_megabytes` of them; two passes, no list.

    A document is taken whenever the text taken so far falls behind its share of the text seen so far, so that the
    selection follows the order of the source and is the same every time.
    """
    if max_megabytes <= 0:
        yield from read()
        return
    total = sum(len(document.text.encode()) for document in read())
    share = min(1.0, max_megabytes * 1e6 / max(total, 1))
    seen = taken = 0
    for document in read():
        size = len(document.text.encode())
        seen += size
        if taken + size / 2 <= share * seen or share == 1.0:
            taken += size
            yield document
