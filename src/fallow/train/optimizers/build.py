"""From a model, a method and settings to an optimizer."""

from collections.abc import Iterable

import torch
from torch import nn

from fallow.train.optimizers.adam import Adam
from fallow.train.optimizers.groups import Group, Rates, groups_of
from fallow.train.optimizers.parameters import trainable
from fallow.train.optimizers.rounding import stream
from fallow.train.optimizers.settings import Optimizer


def build_optimizer(
    model: nn.Module, method: Rates, settings: Optimizer, *, seed: int = 0, more: Iterable[Group] = ()
) -> torch.optim.Optimizer:
    """The optimizer of a run: torch's AdamW where that can do it, else `Adam`, which is made of parts.

    Args:
        model: already sharded, on its device, its weights in their final type.
        method: gives the multipliers of the rate and says what is a matrix; see `groups_of`.
        settings: the rest.
        seed: of stochastic rounding.
        more: further groups, such as multipliers that ascend: {"params": [...], "maximize": True}. `scale` is 1 and
            `weight_decay` 0 unless given. Parameters that are not the model's are not part of a checkpoint.

    Raises:
        UserError: a projection with nothing to project, or on shards.
    """
    groups = groups_of(model, method, settings)
    groups += [{"scale": 1.0, "weight_decay": 0.0} | group for group in more]
    for group in groups:
        group.setdefault("lr", settings.lr * group["scale"])
    if any(hasattr(p, "to_local") for group in groups if "projection" in group for p in group["params"]):
        settings.check_processes()
    if not settings.moment_block and settings.projection is None and settings.weights == "model":
        return torch.optim.AdamW(
            groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=_can_fuse(groups)
        )
    streams: dict[torch.Tensor, int] = {p: stream(seed, name) for name, p in trainable(model).items()}
    return Adam(
        groups,
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        block=settings.moment_block,
        streams=streams if settings.weights == "bf16" else {},
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group `rate` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def _can_fuse(groups: Iterable[Group]) -> bool:
    """Whether torch has one kernel for the whole update on the device and type of these parameters."""
    parameters = [p for group in groups for p in group["params"]]
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
