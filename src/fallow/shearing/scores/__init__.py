"""How much a unit matters, without training gates: scores for the baselines, all cut by the same surgery."""

from fallow.shearing.scores.choose import BY, DEPTH, By, Depth, choose, needs_data
from fallow.shearing.scores.example import Example

__all__ = ["BY", "DEPTH", "By", "Depth", "Example", "choose", "needs_data"]
