"""fallow: training language models with sparse weights, from the first token to the tuned model.

    fallow.convert(model, "sparse", sparsity=0.75)   reparametrise a stock model, in place
    fallow.merge(model)                              put stock layers back, outputs equal
    fallow.prune(model, fallow.pruning.Weights(...)) zero what a tuned update says is needless; also Heads
    fallow.filling(model)                            what merging would do to zeros
    fallow.count(model)                              parameters: positions, stored, trainable, non-zero
    fallow.save(model, folder), fallow.load(folder)  a converted model on disk
    fallow.to_peft(model, folder), fallow.from_peft(stock, folder)      an update as a stock LoRA of PEFT, and back
    fallow.save_update(model, file), fallow.load_update(stock, file)    the same as one small file
    fallow.methods                                   the methods as settings

Nothing is imported before it is used: `import fallow` costs no torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fallow.conversion import ConversionReport, convert, filling, merge
    from fallow.counting import Counts, count
    from fallow.errors import UserError
    from fallow.folder import load, save
    from fallow.hf.peft_export import base_model, to_peft
    from fallow.hf.peft_import import from_peft
    from fallow.hf.update_file import load_update, save_update
    from fallow.pruning import prune

__version__ = "0.1.0"

__all__ = [
    "ConversionReport", "Counts", "UserError", "base_model", "convert", "count", "filling", "from_peft", "load",
    "load_update", "merge", "prune", "save", "save_update", "to_peft",
]  # fmt: skip

_HOMES = {
    "convert": "fallow.conversion",
    "merge": "fallow.conversion",
    "filling": "fallow.conversion",
    "prune": "fallow.pruning",
    "ConversionReport": "fallow.conversion",
    "count": "fallow.counting",
    "Counts": "fallow.counting",
    "save": "fallow.folder",
    "load": "fallow.folder",
    "to_peft": "fallow.hf.peft_export",
    "base_model": "fallow.hf.peft_export",
    "from_peft": "fallow.hf.peft_import",
    "save_update": "fallow.hf.update_file",
    "load_update": "fallow.hf.update_file",
    "UserError": "fallow.errors",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("methods", "linear", "supports", "pruning"):
        return importlib.import_module(f"fallow.{name}")
    raise AttributeError(f"module 'fallow' has no attribute '{name}'")
