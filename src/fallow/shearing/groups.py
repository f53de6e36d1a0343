"""Gates in groups: what one gate stands for, and how many of a row may stay.

L: layers, K: heads of keys and values, g: query heads for each of them, H = K g, m: MLP units, d: channels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fallow.errors import UserError
from fallow.shearing.kept import Kept
from fallow.shearing.scores.names import Sharing
from fallow.shearing.shape import AXES, Axis, Shape


@dataclass(frozen=True, slots=True)
class Group:
    """The gates of one axis: rows that each keep the same number of units."""

    axis: Axis
    rows: tuple[int, ...]
    """Shape of the rows: () for the channels, (L,) for the MLP."""

    size: int
    """Units in a row."""

    keep: int
    """How many of them stay in the end."""

    sharing: Literal["", "within", "whole", "shared"] = ""
    """For heads, which of them one gate stands for."""

    def __str__(self) -> str:
        return f"{self.axis} ({self.size} to {self.keep}{f' of each {self.num_rows} rows' if self.rows else ''})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the gates."""
        return (*self.rows, self.size)

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return math.prod(self.rows)

    @property
    def num_gates(self) -> int:
        """How many gates there are."""
        return self.num_rows * self.size


def groups_of(source: Shape, target: Shape, sharing: Sharing = "auto") -> tuple[Group, ...]:
    """The groups of gates that lead from a shape to a smaller one; an axis that stays as it is has none.

    Heads under grouped queries (K heads of keys and values, each read by g queries):

        within    a gate for each query; every head of keys and values stays, with the same number of queries  (L, K, g)
        whole     a gate for each head of keys and values, which goes with its queries                         (L, K)
        shared    a gate for the j-th query of every head of keys and values at once                           (L, g)
        auto      within where the target keeps all heads of keys and values, whole where it keeps fewer

    With ordinary heads, g = 1, all of them but `shared` are the same.

    Raises:
        UserError: the sharing cannot lead to the target's heads.
    """
    groups = []
    changed = source.changed(target)
    if sharing != "auto" and ("heads" not in changed or source.group == 1):
        why = "the heads are not cut" if source.group > 1 else "every head has its own keys and values"
        raise UserError(f"sharing is {sharing}, which has no effect: {why}. Remove it")
    for axis in AXES:
        if axis not in changed:
            continue
        if axis == "heads":
            groups.append(_heads(source, target, sharing))
        elif axis == "inner":
            groups.append(Group("inner", (source.layers,), source.inner, target.inner))
        else:
            groups.append(Group(axis, (), getattr(source, axis), getattr(target, axis)))
    return tuple(groups)


def _heads(source: Shape, target: Shape, sharing: Sharing) -> Group:
    layers, pairs, group = source.layers, source.kv_heads, source.group
    chosen = sharing
    if sharing == "auto":
        chosen = "whole" if group == 1 or target.kv_heads < pairs else "within"
    if chosen == "whole":
        if target.group != group:
            raise UserError(
                f"the target has {target.heads} heads on {target.kv_heads} of keys and values, {target.group} for "
                f"each, but whole groups keep their {group}. Write heads: {target.kv_heads * group}, or keep "
                f"kv_heads: {pairs} and prune within the groups"
            )
        return Group("heads", (layers,), pairs, target.kv_heads, "whole")
    if target.kv_heads != pairs:
        raise UserError(
            f"kv_heads is {target.kv_heads}, but sharing {chosen} keeps all {pairs} heads of keys and values. "
            f"Write kv_heads: {pairs}, or sharing: whole"
        )
    if chosen == "shared":
        return Group("heads", (layers,), group, target.group, "shared")
    return Group("heads", (layers, pairs), group, target.group, "within")


def by_head(group: Group, source: Shape, gates: Tensor) -> Tensor:
    """Gates of heads, of shape (..., *group.shape), as one for each query head: (..., L, H)."""
    lead = gates.shape[: gates.ndim - len(group.shape)]
    if group.sharing == "whole":
        gates = gates.unsqueeze(-1).expand(*gates.shape, source.group)
    elif group.sharing == "shared":
        gates = gates.unsqueeze(-2).expand(*lead, source.layers, source.kv_heads, source.group)
    return gates.reshape(*lead, source.layers, source.heads)


def best(scores: Tensor, keep: Tensor | int) -> Tensor:
    """A mask of the `keep` highest scores of each row; of equal ones, the first.

    Args:
        scores: shape (..., n).
        keep: how many of a row, one number or a tensor of shape (...).

    >>> import torch
    >>> best(torch.tensor([[3.0, 1.0, 3.0, 3.0]]), 2).tolist()
    [[True, False, True, False]]
    """
    order = scores.argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)
    return rank < (keep.unsqueeze(-1) if isinstance(keep, Tensor) else keep)


def kept_of(source: Shape, groups: tuple[Group, ...], gates: Mapping[Axis, Tensor]) -> Kept:
    """The units whose gates are not 0, with their gates.

    Args:
        source: sizes of the model.
        groups: the groups.
        gates: by axis, of the shape of its group; as many that are not 0 in every row.
    """
    masks: dict[str, Tensor] = {}
    for group in groups:
        mask = gates[group.axis].detach().cpu()
        masks[group.axis] = by_head(group, source, mask) if group.axis == "heads" else mask
    return Kept.from_masks(source, **masks)
