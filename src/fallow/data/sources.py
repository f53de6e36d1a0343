"""From the settings of a source to its documents, the same ones in the same order every time."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from fallow.data.documents import Document, Part, on_side, spread
from fallow.data.embedded import read_reference, read_stdlib
from fallow.data.files import content_facts, list_files, read_file
from fallow.data.hub import read_hub
from fallow.data.settings import TextSource

_VERSION = 2  # raise it when the same settings give other documents than before


def read_source(source: TextSource, part: Part = "all", valid_share: float = 0.0) -> Iterator[Document]:
    """The documents of a source, or of one side of its split.

    Raises:
        UserError: the source does not exist, is empty, or cannot be read.
    """
    return on_side(spread(lambda: _read_all(source), source.max_megabytes), part, valid_share)


def source_fingerprint(source: TextSource, part: Part = "all", valid_share: float = 0.0) -> str:
    """Changes when the documents would: other files or settings; another Python for the embedded ones.

    Weight and name do not count: they change how text is used, not the text.
    """
    facts: list[object] = [_VERSION, source.field, source.max_megabytes, part, valid_share]
    if source.path.startswith("embedded:"):
        facts.append([source.path, sys.version])
    elif source.path.startswith("hub:"):
        facts.append(source.path)
    else:
        facts.append(sorted(content_facts(Path(source.path)).items()))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _read_all(source: TextSource) -> Iterator[Document]:
    if source.path.startswith("embedded:reference"):
        yield from read_reference()
    elif source.path.startswith("embedded:stdlib"):
        yield from read_stdlib(source.path.partition("/")[2])
    elif source.path.startswith("hub:"):
        yield from read_hub(source.path, source.field)
    else:
        for file in list_files(Path(source.path)):
            yield from read_file(file, source.field)
