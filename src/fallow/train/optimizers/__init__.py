"""The update: from a model, a method and settings to one optimizer. Settings come without torch."""

import importlib
from typing import TYPE_CHECKING, Any

from fallow.train.optimizers.settings import AdamW8bit, GaLore, GaLore8bit, Optimizer, optimizers

if TYPE_CHECKING:
    from fallow.train.optimizers.build import build_optimizer, set_rate
    from fallow.train.optimizers.groups import Rates, groups_of
    from fallow.train.optimizers.parameters import canonical, trainable

_HOMES = {
    "Rates": "groups",
    "build_optimizer": "build",
    "canonical": "parameters",
    "groups_of": "groups",
    "set_rate": "build",
    "trainable": "parameters",
}

__all__ = [
    "AdamW8bit",
    "GaLore",
    "GaLore8bit",
    "Optimizer",
    "Rates",
    "build_optimizer",
    "canonical",
    "groups_of",
    "optimizers",
    "set_rate",
    "trainable",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"fallow.train.optimizers.{_HOMES[name]}"), name)
