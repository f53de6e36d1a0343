"""How much a unit matters, without training gates: scores for the baselines, all cut by the same surgery."""
