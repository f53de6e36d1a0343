"""From text to batches: sources, tokenizer, shards, pairs and the mixture that feeds the loop.

Names are loaded when first used, so that the settings can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fallow.data.batch import IGNORE, Batch, Dataset, Sample, collate
    from fallow.data.classification import ClassificationDataset
    from fallow.data.mixture import Mixture
    from fallow.data.pairs import Pair, PairDataset
    from fallow.data.settings import ClassificationData, Data, PairData, TextData, TextSource, TokenizerSettings
    from fallow.data.splits import Splits, open_data, open_tokenizer, training_texts
    from fallow.data.tokenizer import load_tokenizer, train_tokenizer
    from fallow.data.tokens import TokenDataset

__all__ = [
    "IGNORE",
    "Batch",
    "ClassificationData",
    "ClassificationDataset",
    "Data",
    "Dataset",
    "Mixture",
    "Pair",
    "PairData",
    "PairDataset",
    "Sample",
    "Splits",
    "TextData",
    "TextSource",
    "TokenDataset",
    "TokenizerSettings",
    "collate",
    "load_tokenizer",
    "open_data",
    "open_tokenizer",
    "train_tokenizer",
    "training_texts",
]

_HOMES = {
    "batch": ("IGNORE", "Batch", "Dataset", "Sample", "collate"),
    "classification": ("ClassificationDataset",),
    "mixture": ("Mixture",),
    "pairs": ("Pair", "PairDataset"),
    "settings": ("ClassificationData", "Data", "PairData", "TextData", "TextSource", "TokenizerSettings"),
    "splits": ("Splits", "open_data", "open_tokenizer", "training_texts"),
    "tokenizer": ("load_tokenizer", "train_tokenizer"),
    "tokens": ("TokenDataset",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
