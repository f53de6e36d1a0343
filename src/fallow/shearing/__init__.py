"""Shearing: prune a decoder to a given smaller shape, as a stock model of the same class.

families/ says where the units of an architecture sit, `surgery` and `streaming` cut, `valves` gates a model while it
runs, scores/ says what a unit is worth.
"""
