"""From a model and a method to an optimizer: which parameters share a rate and a decay."""

from collections import defaultdict
from typing import Any, Protocol

import torch
from torch import nn

from fallow.train.settings import Optimizer


class Rates(Protocol):
    """What the optimizer asks a method."""

    def rate_scales(self, model: nn.Module) -> dict[str, float]:
        """Multiplier of the learning rate by parameter name; 1 for a name that is absent."""
        ...

    def decayed(self, model: nn.Module) -> set[str]:
        """Names of the parameters that are matrices or parts of one."""
        ...


def canonical(name: str) -> str:
    """The name of a parameter without the segment that compiling a module adds to it.

    >>> canonical("h.0._orig_mod.attn.weight")
    'h.0.attn.weight'
    """
    return name.replace("_orig_mod.", "")


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are updated, by canonical name, a shared one once."""
    return {canonical(name): p for name, p in model.named_parameters() if p.requires_grad}


def build_optimizer(model: nn.Module, method: Rates, settings: Optimizer) -> torch.optim.AdamW:
    """AdamW with one group for each pair of (rate multiplier, decayed or not).

    Each group holds its multiplier under `scale`; `set_rate` keeps its rate at scale * schedule. Weight decay is
    decoupled and uses that multiplied rate, as in torch: a parameter that learns n times faster also decays n times
    faster, and its balance between the two stays where it was.

    Args:
        model: already sharded, on its device.
        method: gives the multipliers and says what is a matrix.
        settings: the rest.
    """
    scales = {canonical(name): scale for name, scale in method.rate_scales(model).items()}
    decayed = {canonical(name) for name in method.decayed(model)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in trainable(model).items():
        decays = settings.decay == "all" or name in decayed
        groups[scales.get(name, 1.0), settings.weight_decay if decays else 0.0].append(parameter)
    listed: list[dict[str, Any]] = [
        {"params": parameters, "scale": scale, "lr": scale * settings.lr, "weight_decay": weight_decay}
        for (scale, weight_decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    return torch.optim.AdamW(listed, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=_can_fuse(model))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group `rate` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def _can_fuse(model: nn.Module) -> bool:
    """Whether torch has one kernel for the whole update on the device and type of these parameters."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
