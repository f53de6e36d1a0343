"""Tiny models with an update that is not zero, as if they had been tuned."""

import torch
from torch import nn

import fallow
from fallow.methods.base import reparam_layers
from tests.conformance.families import tiny


def tuned(family: str, method: str = "dsee", **settings: object) -> nn.Module:
    """A model of the family, converted, in float64; B and S drawn."""
    model = tiny(family).double()
    given = {"rank": 2, **({"entries": 4} if method == "dsee" else {}), **settings}
    fallow.convert(model, method, **given)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in reparam_layers(model).values():
            for term in (layer.low_rank_b, layer.values):
                if term is not None:
                    term.copy_(0.02 * torch.randn(term.shape, generator=draw, dtype=torch.float64))
    return model


def by_hand(model: nn.Module, name: str) -> torch.Tensor:
    """dW of a converted layer, term by term, without the layer's own code."""
    layer = model.get_submodule(name)
    scale = layer.terms.low_rank.alpha / layer.terms.low_rank.rank
    update = torch.zeros(layer.site.shape, dtype=torch.float64)
    rank, at = layer.terms.low_rank.rank, 0
    for number, (first, last) in enumerate(layer.terms.low_rank.rows or ((0, layer.out_features),)):
        a = layer.low_rank_a[number * rank : (number + 1) * rank]
        update[first:last] = scale * layer.low_rank_b[at : at + last - first] @ a
        at += last - first
    if layer.values is not None:
        update.view(-1)[layer.support.flat()] += layer.terms.sparse.factor * layer.values
    return update.detach()
