"""What an optimizer remembers of a parameter, for methods that give the parameter new values."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Change = Callable[[str, Tensor], Tensor]
"""(name, moment) -> the moment that takes its place, of the same shape."""


def change_moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, change: Change) -> None:
    """Replace each moment of a parameter by a function of it, whatever form the optimizer stores it in.

    To begin anew, with the count of updates, write `optimizer.state.pop(parameter, None)` instead.

    Args:
        optimizer: any of fallow's, or one of torch's that keeps its moments as tensors of the parameter's shape.
        parameter: nothing happens before its first update.
        change: is called for each moment with its name ("exp_avg", "exp_avg_sq") and value, of the parameter's shape,
            a DTensor where the parameter is one; in fp32 where the optimizer stores bytes.

    >>> weight = nn.Parameter(torch.ones(2))
    >>> adam = torch.optim.AdamW([weight])
    >>> weight.sum().backward(); adam.step()
    >>> change_moments(adam, weight, lambda name, moment: torch.zeros_like(moment))
    >>> adam.state[weight]["exp_avg"].tolist()
    [0.0, 0.0]
    """
    own = getattr(optimizer, "change_moments", None)
    if own is not None:
        own(parameter, change)
        return
    for name, moment in optimizer.state.get(parameter, {}).items():
        if isinstance(moment, Tensor) and moment.shape == parameter.shape and parameter.ndim:
            moment.copy_(change(name, moment))
