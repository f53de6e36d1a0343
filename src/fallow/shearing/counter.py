"""How many parameters a model would have in another shape, without building it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fallow.shearing.families import Family, family_of
from fallow.shearing.families.family import Slots
from fallow.shearing.shape import Shape
from fallow.shearing.slots import length

_Entry = tuple[Slots, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts the parameters of a family's model for any shape; tied ones once.

    From the tensors of one model and the slots of their dimensions: exact, biases and norms included.
    """

    family: Family
    source: Shape
    inside: tuple[_Entry, ...]
    """Slots and sizes of the tensors of one layer."""

    outside: tuple[_Entry, ...]

    @classmethod
    def of(cls, model: nn.Module, config: Any) -> "Counter":
        """For the family and the biases of this stock model, which may be on the meta device."""
        family = family_of(config)
        inside, outside = [], []
        for name, parameter in model.named_parameters():
            slots, layer = family.slots_of(name)
            if layer is None:
                outside.append((slots, tuple(parameter.shape)))
            elif layer == 0:
                inside.append((slots, tuple(parameter.shape)))
        return cls(family, family.shape_of(config), tuple(inside), tuple(outside))

    @classmethod
    def of_config(cls, config: Any, build: Callable[[Any], nn.Module]) -> "Counter":
        """For a configuration; `build` makes a model of it, here without memory."""
        with torch.device("meta"):
            return cls.of(build(config), config)

    def layer(self, shape: Shape) -> int:
        """Parameters of one layer."""
        return sum(map(_count(shape), self.inside))

    def total(self, shape: Shape) -> int:
        """Parameters of the whole model."""
        return shape.layers * self.layer(shape) + sum(map(_count(shape), self.outside))


def _count(shape: Shape) -> Callable[[_Entry], int]:
    def count(entry: _Entry) -> int:
        slots, sizes = entry
        return math.prod(length(slot, shape, whole) for slot, whole in zip(slots, sizes, strict=True))

    return count
