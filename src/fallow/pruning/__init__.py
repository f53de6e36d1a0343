"""Pruning of a pretrained model: by the update that it was tuned with, or at once by what its layers read."""

from fallow.pruning.apply import prune
from fallow.pruning.report import Pruned
from fallow.pruning.settings import Heads, Pruning, Weights
from fallow.pruning.sparsify import Sparsify, sparsify

__all__ = ["Heads", "Pruned", "Pruning", "Sparsify", "Weights", "prune", "sparsify"]
