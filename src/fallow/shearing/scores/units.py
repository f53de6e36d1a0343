"""Scores of units, added up from vectors over the dimensions of weights.

L: layers, H: query heads, K: heads of keys and values, m: MLP units, d: channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fallow.shearing.groups import Group
from fallow.shearing.shape import Axis, Shape
from fallow.shearing.slots import Slot


class UnitScores:
    """One number for every unit of a model, zero at the start."""

    def __init__(self, source: Shape) -> None:
        self.source = source
        self.layers_l = torch.zeros(source.layers, dtype=torch.float64)
        self.hidden_d = torch.zeros(source.hidden, dtype=torch.float64)
        self.heads_lh = torch.zeros(source.layers, source.heads, dtype=torch.float64)
        self.kv_heads_lk = torch.zeros(source.layers, source.kv_heads, dtype=torch.float64)
        self.inner_lm = torch.zeros(source.layers, source.inner, dtype=torch.float64)

    def add(self, slot: Slot, vector: Tensor, layer: int | None) -> None:
        """Add one number for each entry of a dimension to the units that the entries belong to.

        Args:
            slot: what the dimension counts.
            vector: as long as it.
            layer: number of the layer; None outside the layers.
        """
        v, size = vector.double().cpu(), self.source.head_size
        if slot in ("hidden", "stream", "norm"):
            self.hidden_d += v
        if layer is None or slot in ("whole", "hidden", "stream", "norm"):
            return
        if slot in ("inner", "product"):
            self.inner_lm[layer] += v
        elif slot in ("queries", "context"):
            self.heads_lh[layer] += v.view(-1, size).sum(1)
        elif slot == "keys":
            self.kv_heads_lk[layer] += v.view(-1, size).sum(1)
        elif slot == "queries|keys|values":
            self.heads_lh[layer] += v.view(3, -1, size).sum((0, 2))
        elif slot == "queries+keys+values":
            self.heads_lh[layer] += v.view(-1, 3 * size).sum(1)

    def by_group(self, groups: Sequence[Group]) -> dict[Axis, Tensor]:
        """The scores in the shapes of the groups: a gate that stands for several units gets their sum."""
        found: dict[Axis, Tensor] = {}
        for group in groups:
            if group.axis == "heads":
                found["heads"] = self._heads(group)
            elif group.axis == "inner":
                found["inner"] = self.inner_lm
            else:
                found[group.axis] = self.layers_l if group.axis == "layers" else self.hidden_d
        return found

    def _heads(self, group: Group) -> Tensor:
        grouped = self.heads_lh.view(self.source.layers, self.source.kv_heads, self.source.group)
        match group.sharing:
            case "whole":
                return grouped.sum(2) + self.kv_heads_lk
            case "shared":
                return grouped.sum(1)
            case _:
                return grouped
