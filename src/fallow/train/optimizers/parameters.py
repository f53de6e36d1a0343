"""The parameters that an optimizer changes, by name, and the part of them that this process holds."""

from typing import Any

import torch
from torch import nn


def canonical(name: str) -> str:
    """The name of a parameter without the segment that compiling a module adds to it.

    >>> canonical("h.0._orig_mod.attn.weight")
    'h.0.attn.weight'
    """
    return name.replace("_orig_mod.", "")


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are updated, by canonical name, a shared one once."""
    return {canonical(name): p for name, p in model.named_parameters() if p.requires_grad}


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor, sharing its memory; the tensor itself where it is whole."""
    part: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def local_offset(tensor: Any) -> int:
    """Position of this process's part in the whole tensor, read row by row; parts are cut along the first dimension."""
    if not hasattr(tensor, "to_local") or tensor.ndim == 0:
        return 0
    mesh: Any = tensor.device_mesh
    rows = -(-tensor.shape[0] // int(mesh.size()))
    inner: int = tensor.numel() // max(tensor.shape[0], 1)
    first: int = min(mesh.get_local_rank() * rows, tensor.shape[0])
    return first * inner
