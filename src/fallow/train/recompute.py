"""Blocks that keep their input alone, and compute the rest again when the backward pass comes by."""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fallow.errors import UserError
from fallow.train.distributed import blocks


def recompute_activations(model: nn.Module) -> None:
    """Make each repeated block of a model forget its activations, in place; once, and before the model is sharded.

    The same numbers, dropout included, since the state of the generators is put back for the second computation. It
    costs about a third of the step's operations, one more forward pass of the blocks.

    Raises:
        UserError: the model has no repeated blocks.
    """
    found = blocks(model)
    if not found:
        raise UserError(
            f"activations is recompute, which has no effect: {type(model).__name__} has no repeated blocks. Remove it"
        )
    for block in found:
        if getattr(block.forward, "func", None) is not _forward:
            block.forward = partial(_forward, block.forward)


def _forward(forward: Any, *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
