"""Scores from weights alone."""

from collections.abc import Iterable

from torch import Tensor

from fallow.shearing.families import Family
from fallow.shearing.scores.units import UnitScores
from fallow.shearing.shape import Shape


def magnitude(family: Family, source: Shape, weights: Iterable[tuple[str, Tensor]]) -> UnitScores:
    """The sum of squares of all matrix entries that go with a unit (that disappear when it does).

    Args:
        family: the architecture.
        source: its sizes.
        weights: name and values of each tensor, one after the other: of a model in memory or of a file.
    """
    scores = UnitScores(source)
    for name, tensor in weights:
        slots, layer = family.slots_of(name)
        if tensor.ndim != 2:
            continue  # scales of norms are near one and would outweigh everything
        squares = tensor.detach().float().square()
        for dim, slot in enumerate(slots):
            scores.add(slot, squares.sum(1 - dim), layer)
        if layer is not None:
            scores.layers_l[layer] += float(squares.sum())
    return scores
