"""Pruning of a pretrained model by the update that it was tuned with: single weights, or whole heads of attention."""

from fallow.pruning.apply import prune
from fallow.pruning.report import Pruned
from fallow.pruning.settings import Heads, Pruning, Weights

__all__ = ["Heads", "Pruned", "Pruning", "Weights", "prune"]
