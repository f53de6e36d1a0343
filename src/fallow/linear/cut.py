"""Rows or columns of a linear layer that stay; stock layers and reparametrised ones."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.linear.inputs import Site, dense_weight, site_of, stock_layer
from fallow.linear.reparam import ReparamLinear
from fallow.linear.terms import Chosen, Terms
from fallow.supports import Support

HEADS = "fallow_heads"
"""Attribute of a model whose heads do not follow from its configuration: the original numbers of those that each layer
still has, by name of the attention module."""

Rows = tuple[tuple[int, int], ...]


@torch.no_grad()
def cut_rows(name: str, module: nn.Module, stay: Tensor) -> nn.Module:
    """The layer with these rows of W (outputs) alone, in the class it had.

    Of a fused layer each part must keep the same number. Of an update U V + S the rows of U's side (B) and of S go; the
    factor that reads the input stays whole.

    Args:
        name: of the layer, for its site.
        module: stock or reparametrised; parameters are copied, not shared.
        stay: ascending row numbers, int64, on the CPU.

    Raises:
        UserError: a sparse term whose support was drawn: it could not be drawn again.
    """
    site = module.site if isinstance(module, ReparamLinear) else site_of(name, module)
    edges = np.cumsum([0, *site.parts])
    parts = tuple(int(n) for n in np.histogram(stay.numpy(), bins=edges)[0])
    smaller = replace(site, shape=(len(stay), site.shape[1]), parts=parts)
    bias = getattr(module, "bias", None)
    bias = _index(bias, 0, stay)
    if not isinstance(module, ReparamLinear):
        return _stock(module, smaller, 0, stay, bias)
    layer = _like(module, smaller, _terms(module.terms, stay))
    layer.base = _index(module.base, 0, stay)
    layer.low_rank_a = _index(module.low_rank_a, 0, None)
    layer.low_rank_b = _index(module.low_rank_b, 0, _own_rows(module, stay))
    layer.bias = bias
    _take_entries(layer, module, 0, stay)
    return layer


@torch.no_grad()
def cut_columns(name: str, module: nn.Module, stay: Tensor) -> nn.Module:
    """The layer with these columns of W (inputs) alone; of an update the factor that reads the input and S lose them.

    Args:
        name: of the layer, for its site.
        module: stock or reparametrised; parameters are copied, not shared, but for the bias.
        stay: ascending column numbers, int64, on the CPU.

    Raises:
        UserError: a sparse term whose support was drawn: it could not be drawn again.
    """
    site = module.site if isinstance(module, ReparamLinear) else site_of(name, module)
    smaller = replace(site, shape=(site.shape[0], len(stay)))
    bias = getattr(module, "bias", None)
    if not isinstance(module, ReparamLinear):
        return _stock(module, smaller, 1, stay, bias)
    layer = _like(module, smaller, module.terms)
    layer.base = _index(module.base, 1, stay)
    layer.low_rank_a = _index(module.low_rank_a, 1, stay)
    layer.low_rank_b = _index(module.low_rank_b, 1, None)
    layer.bias = bias
    _take_entries(layer, module, 1, stay)
    return layer


def _stock(module: nn.Module, smaller: Site, dim: int, stay: Tensor, bias: nn.Parameter | None) -> nn.Module:
    weight = dense_weight(module).detach()
    kept = weight.index_select(dim, _beside(weight, stay))
    return stock_layer(smaller, kept, bias, trainable=module.get_parameter("weight").requires_grad)


def _like(module: ReparamLinear, site: Site, terms: Terms) -> ReparamLinear:
    layer = ReparamLinear(site, terms, module.path)
    layer.train(module.training)
    return layer


def _index(parameter: nn.Parameter | None, dim: int, stay: Tensor | None) -> nn.Parameter | None:
    if parameter is None:
        return None
    data = parameter.detach()
    kept = data.clone() if stay is None else data.index_select(dim, _beside(data, stay)).contiguous()
    return nn.Parameter(kept, requires_grad=parameter.requires_grad)


def _beside(data: Tensor, stay: Tensor) -> Tensor:
    """The numbers where the tensor is; one without values takes them from anywhere."""
    return stay if data.is_meta else stay.to(data.device)


def _own_rows(module: ReparamLinear, stay: Tensor) -> Tensor | None:
    """Rows of B that stay: those of W, counted within the ranges that have factors."""
    if module.terms.low_rank is None or not module.terms.low_rank.rows:
        return stay
    kept, at = [], 0
    for first, last in module.terms.low_rank.rows:
        kept.append(stay[(stay >= first) & (stay < last)] - first + at)
        at += last - first
    return torch.cat(kept)


def _terms(terms: Terms, stay: Tensor) -> Terms:
    """The same terms for fewer rows."""
    low_rank, sparse = terms.low_rank, terms.sparse
    if low_rank is not None and low_rank.rows:
        low_rank = replace(low_rank, rows=_moved(low_rank.rows, stay))
    if isinstance(sparse, Chosen):
        sparse = replace(sparse, rows=_moved(sparse.rows, stay), given=None)
    return replace(terms, low_rank=low_rank, sparse=sparse)


def _moved(rows: Rows, stay: Tensor) -> Rows:
    return tuple((int((stay < first).sum()), int((stay < last).sum())) for first, last in rows)


def _take_entries(layer: ReparamLinear, module: ReparamLinear, dim: int, stay: Tensor) -> None:
    """The entries of S in the rows (dim 0) or columns (dim 1) that stay."""
    support, values = module.support, module.values
    if support is None or values is None:
        return
    if not isinstance(module.terms.sparse, Chosen):
        raise UserError(f"{module.site.name} has a support that was drawn for its shape, so it cannot be cut")
    places_nd = torch.stack([support.flat() // support.shape[1], support.flat() % support.shape[1]], dim=1)
    stay = stay.to(places_nd.device)
    place_n = torch.searchsorted(stay, places_nd[:, dim].contiguous()).clamp(max=len(stay) - 1)
    inside = stay[place_n] == places_nd[:, dim]
    places_nd[:, dim] = place_n
    flat = (places_nd[:, 0] * layer.in_features + places_nd[:, 1])[inside]
    layer.values = nn.Parameter(values.detach()[inside.to(values.device)], requires_grad=values.requires_grad)
    layer.set_support(Support.from_flat(layer.site.shape, flat.cpu().numpy()), values.device)
