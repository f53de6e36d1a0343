"""Norms that look at open channels only. d: channels."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, SupportsIndex

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from fallow.shearing.valves import Values

Kind = Literal["rms", "rms + 1", "layer"]
"""How a norm is computed; `rms + 1` scales by one plus its weight."""


class MaskedNorm(nn.Module):
    """What a norm under gates is beside its own class: another forward, the same for all norms of a class.

    A class, and no function put on each norm: `torch.compile` would take such a function for a constant of its layer,
    and make code anew for every layer.
    """

    stock: ClassVar[type[nn.Module]]
    kind: ClassVar[Kind]
    gate_values: "Values"

    def forward(self, x: Tensor) -> Tensor:
        """The norm of x, of shape (..., d), under the gates of this moment."""
        if self.gate_values.hidden is None:
            plain: Tensor = super().forward(x)
            return plain
        return masked(self, self.kind, self.gate_values, x)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        """By its stock class, since pickle cannot look up one that was made here."""
        return _empty, (self.stock, self.kind), vars(self).copy()


_CLASSES: dict[tuple[type[nn.Module], Kind], type[MaskedNorm]] = {}


def _class_of(stock: type[nn.Module], kind: Kind) -> type[MaskedNorm]:
    if (stock, kind) not in _CLASSES:
        _CLASSES[stock, kind] = type(f"Masked{stock.__name__}", (MaskedNorm, stock), {"stock": stock, "kind": kind})
    return _CLASSES[stock, kind]


def _empty(stock: type[nn.Module], kind: Kind) -> MaskedNorm:
    made = _class_of(stock, kind)
    return made.__new__(made)


def mask_norm(norm: nn.Module, kind: Kind, values: "Values") -> None:
    """Put a norm of the residual stream under the gates of its channels; `unmask_norm` undoes it.

    The module stays the same one, with its parameters and its name; only its class is another, derived from its own.
    """
    norm.gate_values = values  # type: ignore[assignment]
    norm.__class__ = _class_of(type(norm), kind)


def unmask_norm(norm: nn.Module) -> None:
    """Give a norm its own class back."""
    if isinstance(norm, MaskedNorm):
        norm.__class__ = norm.stock  # type: ignore[assignment]
        del norm.gate_values


def masked(norm: nn.Module, kind: Kind, values: "Values", x: Tensor) -> Tensor:
    r"""The norm of x, of shape (..., d), under gates z of its channels.

    With keep = [z > 0], n = sum(keep), w and b the norm's own weight and bias, all in fp32:

        RMS norm:    y = z w keep x / sqrt(sum(keep x^2) / n + eps)
        layer norm:  y = z (w c / sqrt(sum(c^2) / n + eps) + b),    c = keep (x - sum(keep x) / n)

    which is what the norm of a model with only those channels gives, scaled by z.
    """
    assert values.hidden is not None
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
