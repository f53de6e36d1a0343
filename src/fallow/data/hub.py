"""Text from the Hugging Face Hub: only when a source names it, through the `datasets` library."""

from collections.abc import Iterator
from typing import Any

from fallow.data.documents import Document
from fallow.errors import UserError, first_line
from fallow.json_text import kind
from fallow.unpack import check_length


def read_hub(path: str, field: str) -> Iterator[Document]:
    """The documents of `hub:owner/name`, `hub:owner/name/config` or either with `:split` (else train).

    Raises:
        UserError: `datasets` is missing, the data set cannot be reached, or it has no such column.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(f"{path} needs the datasets library. Write pip install 'fallow[data]'.") from None
    address, _, split = path.removeprefix("hub:").partition(":")
    owner, name, *config = address.split("/")
    try:
        rows: Any = datasets.load_dataset(f"{owner}/{name}", *config, split=split or "train")
    except Exception as error:  # the library and its network layers raise many kinds
        first = first_line(error)
        raise UserError(
            f"{path} could not be loaded: {first} Check the name and the network, or name a local file instead."
        ) from None
    if field not in rows.column_names:
        raise UserError(
            f"{path} has no column {field}. It has: {', '.join(rows.column_names)}. Set field to one of them."
        )
    for number, row in enumerate(rows):
        text = row[field]
        if text is not None and not isinstance(text, str):
            raise UserError(
                f"{path}#{number} has {kind(text)} in {field}, but text is needed. Set field to another column."
            )
        if text:
            check_length(text, f"{path}#{number}")
            yield Document(f"{path}#{number}", text)
