"""The layers of stock models that can be reparametrised: `nn.Linear` and the transposed `Conv1D` of GPT-2."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

_PARTS = "fallow_parts"
"""Attribute of a stock layer with the rows of the matrices fused in it, where they do not follow from its shape."""


@dataclass(frozen=True, slots=True)
class Site:
    """A place in a model where a weight of shape (d_out, d_in) sits."""

    name: str
    """Dotted name of the module."""

    shape: tuple[int, int]
    """(d_out, d_in), whatever the orientation in storage."""

    parts: tuple[int, ...]
    """Rows of the separate matrices that are fused in it, top to bottom; (d_out,) when nothing is fused."""

    transposed: bool
    """True for `Conv1D`, which stores (d_in, d_out)."""

    bias: bool = field(default=False, compare=False)
    """Whether the layer has one; of no meaning for its weight."""


def is_linear(module: nn.Module) -> bool:
    """Whether a module computes x W^T + b with a 2-D weight of its own: `nn.Linear` or GPT-2's `Conv1D`.

    By type name for the latter, so that transformers is not imported. Subclasses (quantised layers, adapters) are not
    taken: their weight is not what it seems.
    """
    return type(module) is nn.Linear or is_conv1d(module)


def is_conv1d(module: nn.Module) -> bool:
    """Whether a module is GPT-2's `Conv1D`."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def site_of(name: str, module: nn.Module) -> Site:
    """The site of a linear layer.

    GPT-2's `c_attn` is three matrices, Q, K and V, side by side. GPT-NeoX interleaves Q, K and V head by head in
    `query_key_value`; that one is treated as a whole: its density is exact overall and equal in expectation in each.
    """
    weight = module.get_parameter("weight")
    transposed = is_conv1d(module)
    d_out, d_in = tuple(weight.shape[::-1]) if transposed else tuple(weight.shape)
    fused = name.rpartition(".")[2] == "c_attn" and d_out == 3 * d_in
    parts = getattr(module, _PARTS, None) or ((d_in,) * 3 if fused else (d_out,))
    return Site(name, (d_out, d_in), parts, transposed, getattr(module, "bias", None) is not None)


def dense_weight(module: nn.Module) -> Tensor:
    """The weight in (d_out, d_in) orientation: a view of what the layer stores."""
    weight = module.get_parameter("weight")
    return weight.t() if is_conv1d(module) else weight


def linear_sites(model: nn.Module) -> dict[str, Site]:
    """Every linear layer inside the model by name, in model order."""
    return {name: site_of(name, module) for name, module in model.named_modules() if name and is_linear(module)}


def block_names(model: nn.Module) -> list[str]:
    """Dotted names of the repeated blocks: the items of each outermost `ModuleList` that holds linear layers."""
    return list(_blocks_below(model, ""))


def _blocks_below(module: nn.Module, prefix: str) -> Iterator[str]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.ModuleList) and any(_has_weight(part) for part in child.modules()):
            yield from (f"{path}.{number}" for number in range(len(child)))
        else:
            yield from _blocks_below(child, f"{path}.")


def _has_weight(module: nn.Module) -> bool:
    """A linear layer, stock or reparametrised."""
    return is_linear(module) or isinstance(getattr(module, "site", None), Site)


def stock_layer(site: Site, weight: Tensor, bias: nn.Parameter | None, *, trainable: bool = True) -> nn.Module:
    """The stock module with this weight of shape (d_out, d_in) and this very bias, in the class the site had."""
    d_out, d_in = site.shape
    if site.transposed:
        from transformers.pytorch_utils import Conv1D

        with torch.device("meta"):  # nothing is drawn that is thrown away
            layer: nn.Module = Conv1D(d_out, d_in)
        weight = weight.t()
        bias = nn.Parameter(weight.new_zeros(d_out)) if bias is None else bias
    else:
        layer = nn.Linear(d_in, d_out, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=trainable)
    if bias is not None:
        layer.bias = bias
    if len(site.parts) > 1:
        setattr(layer, _PARTS, site.parts)
    return layer
