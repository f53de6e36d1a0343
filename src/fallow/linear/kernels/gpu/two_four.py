"""Products with a weight that is 2:4 along its rows, by torch's sparse tensor-core kernels, as a torch operator.

Shapes: t = tokens, o = d_out, i = d_in, g = groups of four in a row.
"""

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from fallow.linear.kernels.operators import require_one_device

MULTIPLE = 64
"""Rows and columns must be multiples of it: the kernels of both of torch's libraries take such matrices."""

NARROW = (torch.bfloat16, torch.float16)
"""Types that the kernels take."""

_operators = torch.library.Library("fallow", "FRAGMENT")
_operators.define("two_four_linear(Tensor x_ti, Tensor weight_oi, Tensor? bias_o) -> Tensor")


def missing() -> str:
    """Why torch has no such kernels here; empty where it has them."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    if torch.version.hip is not None:
        return "sparse tensor cores are NVIDIA's"
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    if capability < (8, 0):
        return f"{name} has no sparse tensor cores"
    if not torch.backends.cusparselt.is_available() and capability >= (9, 0):
        return f"torch was built without cuSPARSELt, which {name} needs"
    return ""


def two_four_linear(x_ti: Tensor, weight_oi: Tensor, bias_o: Tensor | None = None) -> Tensor:
    """Y = x W^T + bias; not differentiable on its own.

    W comes dense and is compressed inside: half of its numbers, and two bits for the place of each. What stands beside
    two others in a group of four is lost, so W has to be 2:4 indeed.

    Args:
        x_ti: bfloat16 or float16; any number of tokens (the kernels want a multiple of 8, and it is filled up).
        weight_oi: of the same type, contiguous, rows and columns multiples of `MULTIPLE`.
        bias_o: added to every token.
    """
    y_to: Tensor = torch.ops.fallow.two_four_linear(x_ti, weight_oi, bias_o)
    return y_to


def _on_gpu(x_ti: Tensor, weight_oi: Tensor, bias_o: Tensor | None) -> Tensor:
    _require_fit(x_ti, weight_oi, bias_o)
    return functional.linear(x_ti, torch.sparse.to_sparse_semi_structured(weight_oi), bias_o)


def _emulated(x_ti: Tensor, weight_oi: Tensor, bias_o: Tensor | None) -> Tensor:
    """The same by plain operations: two numbers of each group are kept, whatever stands there; for tests."""
    _require_fit(x_ti, weight_oi, bias_o)
    groups_og4 = weight_oi.view(weight_oi.shape[0], -1, 4)
    places_og2 = groups_og4.abs().topk(2, dim=2).indices
    kept_og4 = torch.zeros_like(groups_og4).scatter(2, places_og2, groups_og4.gather(2, places_og2))
    return functional.linear(x_ti, kept_og4.view_as(weight_oi), bias_o)


def _fake(x_ti: Tensor, weight_oi: Tensor, bias_o: Tensor | None) -> Tensor:
    _require_fit(x_ti, weight_oi, bias_o)
    return x_ti.new_empty(x_ti.shape[0], weight_oi.shape[0])


def _require_fit(x_ti: Tensor, weight_oi: Tensor, bias_o: Tensor | None) -> None:
    require_one_device(x_ti, weight_oi, bias_o)
    fits = x_ti.dim() == weight_oi.dim() == 2 and x_ti.shape[1] == weight_oi.shape[1] and x_ti.dtype == weight_oi.dtype
    if not fits or not weight_oi.is_contiguous() or weight_oi.shape[1] % 4:
        raise ValueError(f"x of {tuple(x_ti.shape)} cannot be multiplied by a 2:4 weight of {tuple(weight_oi.shape)}")
    if bias_o is not None and (bias_o.shape != weight_oi.shape[:1] or bias_o.dtype != x_ti.dtype):
        raise ValueError(
            f"a bias of {tuple(bias_o.shape)} {bias_o.dtype} cannot be added to {weight_oi.shape[0]} outputs"
        )


_operators.impl("two_four_linear", _on_gpu, "CUDA")
_operators.impl("two_four_linear", _emulated, "CPU")
torch.library.register_fake("fallow::two_four_linear", _fake, lib=_operators)


@register_flop_formula(torch.ops.fallow.two_four_linear)
def _flops(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], *_: object, **__: object) -> int:
    return int(x_shape[0] * weight_shape[0] * weight_shape[1])
