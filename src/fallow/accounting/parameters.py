"""How many parameters a model has, by group; a tied head is counted once."""

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from fallow.accounting.anatomy import GROUPS, parts
from fallow.linear.reparam import ReparamLinear


@dataclass(kw_only=True, slots=True)
class GroupCounts:
    """Parameters of one group."""

    positions: int = 0
    """Entries of the merged, stock model."""

    nonzero: int = 0
    """Entries of the merged model that can differ from zero: all but those outside a support."""

    stored: int = 0
    """Numbers that are kept as parameters: values on the support, factors, dense weights."""

    trainable: int = 0
    """Stored numbers that get a gradient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Parameters of a model, from its structure alone (`fallow.count` looks at the values too)."""

    groups: dict[str, GroupCounts] = field(default_factory=dict)
    """By name: embeddings, attention, mlp, norms, head, other."""

    @property
    def positions(self) -> int:
        """Entries of the merged, stock model."""
        return sum(group.positions for group in self.groups.values())

    @property
    def nonzero(self) -> int:
        """Entries of the merged model that can differ from zero."""
        return sum(group.nonzero for group in self.groups.values())

    @property
    def stored(self) -> int:
        """Numbers kept as parameters."""
        return sum(group.stored for group in self.groups.values())

    @property
    def trainable(self) -> int:
        """Stored numbers that get a gradient."""
        return sum(group.trainable for group in self.groups.values())

    @property
    def density(self) -> float:
        """Nonzero / positions, of the whole model: always above the density of its sparse layers."""
        return self.nonzero / self.positions if self.positions else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        whole = {key: getattr(self, key) for key in ("positions", "nonzero", "stored", "trainable")}
        return {**whole, "groups": {name: asdict(group) for name, group in self.groups.items()}}


def count_parameters(model: nn.Module) -> Parameters:
    """Count the parameters of a model, stock or converted, on any device including meta.

    A parameter used in two places (a tied head) counts once, where it comes first: with the embeddings. A head that is
    not tied is its own group.

    >>> from torch import nn
    >>> count_parameters(nn.Sequential(nn.Embedding(10, 4), nn.LayerNorm(4))).positions
    48
    """
    groups = {name: GroupCounts() for name in GROUPS}
    seen: set[int] = set()
    for _, module, name in parts(model):
        group = groups[name]
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(id(p) for p in own)
        stored = sum(p.numel() for p in own)
        group.stored += stored
        group.trainable += sum(p.numel() for p in own if p.requires_grad)
        if isinstance(module, ReparamLinear):
            bias = 0 if module.bias is None else module.bias.numel()
            group.positions += module.out_features * module.in_features + bias
            group.nonzero += module.nnz + bias
        else:
            group.positions += stored
            group.nonzero += stored
    return Parameters(groups=groups)
