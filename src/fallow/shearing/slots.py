"""What each dimension of a weight counts, and which of its entries stay.

A family's table gives every tensor of a model a slot for each dimension. From the slots follow which rows and columns
a cut keeps, which gates they absorb, and how many parameters a shape has.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fallow.shearing.kept import Kept
from fallow.shearing.shape import Shape

Slot = Literal[
    "whole",  # never cut: vocabulary, positions, the inside of a head
    "hidden",  # reads the residual stream, or writes it ungated (embeddings)
    "stream",  # writes the residual stream: absorbs the gates of the layer and of the channel
    "norm",  # scale or bias of a norm of the residual stream: absorbs the gate of the channel
    "queries",  # heads x head size
    "keys",  # heads of keys and values x head size
    "context",  # as queries, where the output projection reads them: absorbs the gate of the head
    "queries|keys|values",  # three in a row (GPT-2)
    "queries+keys+values",  # head by head: query, key, value of head 0, of head 1, ... (GPT-NeoX)
    "inner",  # units of the MLP
    "product",  # units of the MLP where the down projection reads them: absorbs the gate of the unit
]

SLOTS: tuple[str, ...] = get_args(Slot)


def length(slot: Slot, shape: Shape, whole: int) -> int:
    """Entries of a dimension in a model of this shape; `whole` is its size where it is never cut.

    >>> length("queries|keys|values", Shape(layers=1, hidden=8, heads=2, kv_heads=2, head_size=4, inner=16), 0)
    24
    """
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    match slot:
        case "whole":
            return whole
        case "hidden" | "stream" | "norm":
            return shape.hidden
        case "queries" | "context":
            return queries
        case "keys":
            return keys
        case "queries|keys|values" | "queries+keys+values":
            return queries + 2 * keys
        case "inner" | "product":
            return shape.inner


@dataclass(frozen=True, slots=True)
class Selection:
    """What stays of one dimension."""

    index: Tensor | None
    """Entries that stay, in their new order; None for all."""

    factor: Tensor | None
    """What they are multiplied by; None for 1."""


def select(slot: Slot, kept: Kept, layer: int | None) -> Selection:
    """What stays of a dimension.

    Args:
        slot: what the dimension counts.
        kept: the units.
        layer: number of the tensor's layer among those that are kept; None outside the layers.
    """
    size = kept.source.head_size
    if slot == "whole":
        return Selection(None, None)
    if slot in ("hidden", "stream", "norm"):
        gates = None if slot == "hidden" else kept.hidden_gates_d
        if slot == "stream" and gates is not None and layer is not None:
            gates = gates * kept.layer_gates_l[layer]
        return Selection(_unless_all(kept.hidden_d, kept.source.hidden), _unless_open(gates))
    assert layer is not None, f"slot {slot} belongs in a layer"
    if slot in ("inner", "product"):
        gates = kept.inner_gates_lm[layer] if slot == "product" else None
        return Selection(_unless_all(kept.inner_lm[layer], kept.source.inner), _unless_open(gates))
    heads, keys = kept.heads_lh[layer], kept.kv_heads_lk[layer]
    if slot == "queries|keys|values":
        total = kept.source.heads * size
        parts = [_widen(heads, size) + part * total for part in range(3)]
        return Selection(_unless_all(torch.cat(parts), 3 * total), None)
    if slot == "queries+keys+values":
        return Selection(_unless_all(_widen(heads, 3 * size), 3 * kept.source.heads * size), None)
    if slot == "keys":
        return Selection(_unless_all(_widen(keys, size), kept.source.kv_heads * size), None)
    gates = kept.head_gates_lh[layer].repeat_interleave(size) if slot == "context" else None
    return Selection(_unless_all(_widen(heads, size), kept.source.heads * size), _unless_open(gates))


def _widen(blocks: Tensor, size: int) -> Tensor:
    """Entries of blocks of `size`: [2] with size 3 is [6, 7, 8]."""
    return (blocks[:, None] * size + torch.arange(size, device=blocks.device)).flatten()


def _unless_all(index: Tensor, size: int) -> Tensor | None:
    return None if index.numel() == size else index


def _unless_open(gates: Tensor | None) -> Tensor | None:
    return None if gates is None or bool((gates == 1).all()) else gates
