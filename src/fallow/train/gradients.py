"""The length of all gradients together, and making them shorter."""

from collections.abc import Iterable

import torch


def local_gradients(parameters: Iterable[torch.nn.Parameter]) -> list[torch.Tensor]:
    """This process's part of each gradient as plain tensors; parameters without a gradient are left out."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return [g.to_local() if hasattr(g, "to_local") else g for g in gradients]


def norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """The Euclidean norm of all entries together, taken in fp32; a scalar.

    Of one process's parts it is that process's share: squares add up over processes.
    """
    return torch.nn.utils.get_total_norm([g.float() for g in gradients])


def clip_(gradients: list[torch.Tensor], total_norm: float, limit: float) -> None:
    """Scale gradients in place to the norm `limit` when `total_norm` is above it; a limit of 0 is none."""
    if limit and total_norm > limit:
        torch._foreach_mul_(gradients, limit / (total_norm + 1e-6))
