"""The attention of each block: its projections, and how many heads they hold."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.linear.roles import Role
from fallow.pruning.matrices import Matrix, in_blocks, matrices


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of one block. A unit is a head of keys and values with all the heads of queries that share it."""

    name: str
    """Of the module that holds the projections."""

    parts: dict[Role, Matrix]
    num_units: int
    head_size: int
    groups: int
    """Heads of queries in a unit; 1 without grouped queries."""

    def lines(self, role: Role, units: Tensor) -> Tensor:
        """Rows of a projection (columns of the output's) that belong to these units, counted in the projection."""
        width = self.head_size * (self.groups if role in ("q", "o") else 1)
        return (units[:, None] * width + torch.arange(width)).reshape(-1)

    def by_unit(self, role: Role, scores: Tensor) -> Tensor:
        """Sums of a projection's scores (rows, d_in) over the lines of each unit."""
        lines = scores.sum(0) if role == "o" else scores.sum(1)
        return lines.double().view(self.num_units, -1).sum(1)


def attentions(model: nn.Module) -> list[Attention]:
    """The attention of every block, in order.

    Raises:
        UserError: a model whose attention has no projections of known names, or interleaves them.
    """
    config: Any = getattr(model, "config", None)
    heads, hidden = getattr(config, "num_attention_heads", None), getattr(config, "hidden_size", None)
    found: dict[str, dict[Role, Matrix]] = {}
    for matrix in matrices(model):
        if matrix.role is not None and in_blocks(matrix.name):
            found.setdefault(_block(matrix.name), {})[matrix.role] = matrix
    whole = {name: parts for name, parts in found.items() if parts.keys() == {"q", "k", "v", "o"}}
    if not isinstance(heads, int) or not isinstance(hidden, int) or not whole:
        raise UserError(
            f"the heads of {type(model).__name__} cannot be told apart: it has no projections of queries, keys, "
            "values and output by names that are known, such as q_proj, query or c_attn"
        )
    size = getattr(config, "head_dim", None) or hidden // heads
    listed = []
    for parts in whole.values():
        queries, keys = (parts[role].rows[1] - parts[role].rows[0] for role in ("q", "k"))
        place = parts["q"].name.rpartition(".")[0]
        listed.append(Attention(place, parts, keys // size, size, queries // keys))
    return listed


def _block(name: str) -> str:
    parts = name.split(".")
    number = next(place for place, part in enumerate(parts) if part.isdigit())
    return ".".join(parts[: number + 1])
