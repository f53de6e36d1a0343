"""Which of two models answers better: pairs of responses, a judge, verdicts in both orders, the win rate."""
