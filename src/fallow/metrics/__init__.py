"""Metrics of generated texts, equal to the official scripts: `score("e2e", hypotheses, references)`."""

from fallow.metrics.profiles import PROFILES, Profile
from fallow.metrics.scores import Scores, score

__all__ = ["PROFILES", "Profile", "Scores", "score"]
