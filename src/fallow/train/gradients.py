"""The length of gradients, together or one by one, and making them shorter."""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist

from fallow.train.distributed import Mesh


def local_gradients(parameters: Iterable[torch.nn.Parameter]) -> list[torch.Tensor]:
    """This process's part of each gradient as plain tensors; parameters without a gradient are left out."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return [g.to_local() if hasattr(g, "to_local") else g for g in gradients]


def average_(parameters: Iterable[torch.nn.Parameter], mesh: Mesh) -> None:
    """Make gradients of parameters that every process holds whole the mean over the processes, in place.

    FSDP does that for the shards. All processes have the same parameters; where one has no gradient, it counts as zero.
    """
    if mesh.world == 1:
        return
    held = list(parameters)
    if not held:
        return
    for parameter in held:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([parameter.grad.flatten() for parameter in held if parameter.grad is not None])
    dist.all_reduce(flat)
    flat /= mesh.world
    for parameter, part in zip(held, flat.split([parameter.numel() for parameter in held]), strict=True):
        assert parameter.grad is not None
        parameter.grad.copy_(part.view_as(parameter))


def norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """The Euclidean norm of all entries together, taken in fp32; a scalar.

    Of one process's parts it is that process's share: squares add up over processes.
    """
    return torch.nn.utils.get_total_norm([g.float() for g in gradients])


def norm_of_norms(norms: Sequence[torch.Tensor]) -> torch.Tensor:
    """The norm of all gradients from the norm of each, bit for bit what `norm` gives for the same order."""
    return torch.linalg.vector_norm(torch.stack(list(norms))) if norms else torch.tensor(0.0)


def clip_(gradients: list[torch.Tensor], total_norm: float, limit: float) -> None:
    """Scale gradients in place to the norm `limit` when `total_norm` is above it; a limit of 0 is none."""
    if limit and total_norm > limit:
        torch._foreach_mul_(gradients, limit / (total_norm + 1e-6))


def clip_tensor_(gradient: torch.Tensor, own_norm: torch.Tensor, limit: float, world: int) -> torch.Tensor:
    """Scale one gradient in place to the norm `limit` when it is longer; returns its norm, of all parts together.

    Nothing waits for the device.

    Args:
        gradient: this process's part.
        own_norm: its norm, a scalar.
        limit: not 0.
        world: number of processes that hold parts; with several, squares are added up between them.
    """
    if world > 1:
        squares = own_norm.square()
        dist.all_reduce(squares)
        own_norm = squares.sqrt()
    gradient.mul_(torch.clamp(limit / (own_norm + 1e-6), max=1.0))
    return own_norm
