"""Static sparse training: SPDF's first phase."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from fallow.errors import UserError
from fallow.linear import FromWeight, Site, Terms
from fallow.linear import Sparse as SparseTerm
from fallow.linear.inputs import dense_weight
from fallow.methods.base import Method, ParamOverride, reparam_layers
from fallow.random import Key
from fallow.supports import kind_of, layer_densities


@dataclass(frozen=True, kw_only=True, slots=True)
class Sparse(Method):
    r"""Sparse pre-training on a fixed random support (SPDF phase 1; Thangarasa et al., 2023, arXiv 2303.10464).

    A target weight of shape (d_out, d_in) is never stored; it is

        W = scatter(values, support),    nnz = round((1 - sparsity) * d_out * d_in)

    and starts as the model's own initial weight at the support. Only the values are trained; they alone have gradients
    and optimizer states. Dense fine-tuning afterwards (phase 2) is method `dense` on the merged model.

    >>> import torch
    >>> from fallow import convert
    >>> net = nn.ModuleList([nn.Linear(64, 64)])
    >>> convert(nn.Sequential(net), Sparse(sparsity=0.75)).num_entries
    1024

    Differs from the paper: nothing with the default settings. The published runs store dense weights and masks; here
    the zeros do not exist. `parametrization: supar` is a later rule that the paper did not use.
    """

    name: ClassVar[str] = "sparse"

    sparsity: float
    """Share of entries that do not exist: 0.5 and 0.75 in the paper. Higher saves more and costs more quality."""

    support: str = "uniform"
    """Kind of support: uniform (the paper), n:m such as 1:4, vector:HEIGHT, block:SIZE; the latter suit
    fast kernels."""

    distribution: Literal["uniform", "er", "erk"] = "uniform"
    """How the density is spread over the matrices; the paper gives every matrix the same."""

    parametrization: Literal["standard", "supar"] = "standard"
    """`supar` multiplies initial values by 1 / sqrt(density) and the Adam rate of the values by 1 / density, so that a
    rate tuned on the dense model fits every sparsity (Dey et al., 2024, arXiv 2405.15743); `standard` is SPDF's."""

    revive: Literal["zeros", "normal"] = "zeros"
    """How the missing entries start when a later stage wakes them up for dense training: at zero (the paper), or normal
    with the standard deviation of the values (which the paper found no better)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Method.__post_init__(self)
        if not 0.0 <= self.sparsity < 1.0:
            hint = f". Did you mean {self.sparsity / 100:g}?" if 1.0 < self.sparsity < 100.0 else ""
            raise UserError(f"sparsity is {self.sparsity:g}, but it must be at least 0 and below 1{hint}")
        kind_of(self.support)
        if ":" in self.support and self.support[0].isdigit():
            if self.distribution != "uniform":
                raise UserError(
                    f"distribution {self.distribution} has no effect with support {self.support}, which has the same "
                    "density in every layer. Remove distribution, or write support uniform"
                )
            kind_of(self.support).num_entries((1, int(self.support.split(":")[1])), 1.0 - self.sparsity)

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """A sparse term alone, everywhere."""
        kind = kind_of(self.support)
        densities = layer_densities({n: site.shape for n, site in sites.items()}, 1 - self.sparsity, self.distribution)
        return {
            name: Terms(
                sparse=SparseTerm(
                    kind=kind,
                    density=densities[name],
                    key=key.child(name),
                    parts=site.parts,
                    start=FromWeight(1.0 / math.sqrt(densities[name]) if self.parametrization == "supar" else 1.0),
                )
            )
            for name, site in sites.items()
        }

    def param_overrides(self, model: nn.Module) -> dict[str, ParamOverride]:
        """SuPar: the learning rate of a layer's values is multiplied by 1 / density."""
        if self.parametrization == "standard":
            return {}
        return {f"{name}.values": ParamOverride(1.0 / la.density) for name, la in reparam_layers(model).items()}


@torch.no_grad()
def wake(model: nn.Module, names: list[str], revive: Literal["zeros", "normal"], seed: int) -> int:
    """Give the zeros of a merged model their start for dense training; returns how many woke up.

    Args:
        model: a merged (stock) model, in place.
        names: the layers that were sparse.
        revive: `zeros` changes nothing; `normal` draws each zero from N(0, std of the layer's non-zero entries), from
            (seed, layer name).
        seed: the seed of the draw.
    """
    count = 0
    for name in names:
        weight = dense_weight(model.get_submodule(name))
        asleep = weight == 0
        count += int(asleep.sum())
        if revive == "normal" and asleep.any() and not asleep.all():
            draws = torch.from_numpy(Key(seed, f"wake/{name}").normal(int(asleep.sum()))).to(weight)
            weight[asleep] = draws * weight[~asleep].std()
    return count
