"""The matrices of a model as pruning sees them: rows of a linear layer that share a group."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fallow.linear import ReparamLinear, Site, is_linear
from fallow.linear.inputs import dense_weight, site_of
from fallow.linear.roles import Role, roles_of


@dataclass(frozen=True, slots=True)
class Matrix:
    """A range of rows of a linear layer: a whole weight, or one of the matrices that are fused in it."""

    name: str
    """Of the layer."""

    module: nn.Module
    site: Site
    rows: tuple[int, int]
    """(first, one after the last)."""

    role: Role | None
    """In attention; None elsewhere, and for several roles at once."""

    has_update: bool
    """Whether the layer adds factors or entries to these rows."""

    @property
    def label(self) -> str:
        """The name, with the role where the layer holds several matrices."""
        whole = self.rows == (0, self.site.shape[0])
        return self.name if whole else f"{self.name} {self.role or ''}".strip()

    @property
    def is_trained(self) -> bool:
        """Whether the frozen or stock weight gets a gradient after all."""
        weight = self.module.base if isinstance(self.module, ReparamLinear) else self.module.get_parameter("weight")
        return weight is not None and weight.requires_grad

    @property
    def size(self) -> int:
        """Number of entries."""
        return (self.rows[1] - self.rows[0]) * self.site.shape[1]

    def weight(self) -> Tensor:
        """The frozen or stock weight W0 of these rows, (rows, d_in): a view."""
        base = self.module.base if isinstance(self.module, ReparamLinear) else dense_weight(self.module)
        assert base is not None
        return base.detach()[self.rows[0] : self.rows[1]]

    def update(self) -> Tensor:
        """The update dW of these rows, scaled as the layer adds it; built on the spot."""
        assert isinstance(self.module, ReparamLinear)
        with torch.no_grad():
            return self.module.update_weight()[self.rows[0] : self.rows[1]]


def matrices(model: nn.Module) -> Iterator[Matrix]:
    """Every matrix of the model's linear layers, in model order; fused ones one by one."""
    for name, module in model.named_modules():
        if isinstance(module, ReparamLinear):
            site = module.site
        elif name and is_linear(module):
            site = site_of(name, module)
        else:
            continue
        updated = _updated_rows(module)
        for role, rows in _ranges(site):
            has_update = any(first <= rows[0] and rows[1] <= last for first, last in updated)
            yield Matrix(name, module, site, rows, role, has_update)


def in_blocks(name: str) -> bool:
    """Whether a layer lies in one of the repeated blocks: only there a part of the name is a number."""
    return any(part.isdigit() for part in name.split("."))


def _ranges(site: Site) -> list[tuple[Role | None, tuple[int, int]]]:
    roles = roles_of(site)
    if len(set(roles.values())) == len(roles) > 0:
        return list(roles.items())
    return [(None, (0, site.shape[0]))]


def _updated_rows(module: nn.Module) -> tuple[tuple[int, int], ...]:
    if not isinstance(module, ReparamLinear):
        return ()
    if module.terms.low_rank is not None:
        return module.terms.low_rank.rows or ((0, module.out_features),)
    return ((0, module.out_features),) if module.terms.sparse is not None else ()
