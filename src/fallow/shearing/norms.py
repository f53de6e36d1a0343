"""Norms that look at open channels only. d: channels."""

from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from fallow.shearing.valves import Values

Kind = Literal["rms", "rms + 1", "layer"]
"""How a norm is computed; `rms + 1` scales by one plus its weight."""


def mask_norm(norm: nn.Module, kind: Kind, values: "Values") -> None:
    """Put a norm of the residual stream under the gates of its channels; `unmask_norm` undoes it.

    The module stays the same one, with its parameters and its name; only its `forward` is another.
    """
    vars(norm)["forward"] = partial(masked, norm, kind, values)  # unlike a bound method it survives pickle and deepcopy


def unmask_norm(norm: nn.Module) -> None:
    """Give a norm its own forward back."""
    vars(norm).pop("forward", None)


def masked(norm: nn.Module, kind: Kind, values: "Values", x: Tensor) -> Tensor:
    r"""The norm of x, of shape (..., d), under gates z of its channels.

    With keep = [z > 0], n = sum(keep), w and b the norm's own weight and bias, all in fp32:

        RMS norm:    y = z w keep x / sqrt(sum(keep x^2) / n + eps)
        layer norm:  y = z (w c / sqrt(sum(c^2) / n + eps) + b),    c = keep (x - sum(keep x) / n)

    which is what the norm of a model with only those channels gives, scaled by z. Without gates it is the stock norm.
    """
    if values.hidden is None:
        plain: Tensor = type(norm).forward(norm, x)
        return plain
    assert values.keep is not None
    assert values.num_kept is not None
    shape = x.shape
    if values.hidden.ndim == 3 and x.ndim == 2:  # OPT flattens sequences before its MLP
        x = x.view(values.hidden.shape[0], -1, shape[-1])
    wide = x.float() if x.element_size() < 4 else x
    keep, num, gate = values.keep.to(wide.dtype), values.num_kept.to(wide.dtype), values.hidden.to(wide.dtype)
    weight: Tensor | None = norm.weight  # type: ignore[assignment]
    bias: Tensor | None = getattr(norm, "bias", None)
    open_x = wide * keep
    if kind == "layer":
        open_x = (wide - open_x.sum(-1, keepdim=True) / num) * keep
    inverse = torch.rsqrt((open_x * open_x).sum(-1, keepdim=True) / num + _eps(norm))
    if weight is not None:
        gate_w = gate * (1.0 + weight if kind == "rms + 1" else weight)
    else:
        gate_w = gate
    y = open_x * inverse * gate_w
    if bias is not None:
        y = y + gate * bias
    return y.to(x.dtype).view(shape)


def _eps(norm: nn.Module) -> float:
    return float(getattr(norm, "eps", None) or norm.variance_epsilon)  # type: ignore[arg-type]
