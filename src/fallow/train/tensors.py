"""The tensors of a model and its optimizer by name, whole or sharded."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from fallow.train.distributed import reshard
from fallow.train.optimizers.adam import Adam
from fallow.train.optimizers.parameters import canonical, trainable

Tensors = dict[str, torch.Tensor]


def model_tensors(model: nn.Module) -> Tensors:
    """Parameters (a shared one once) and persistent buffers, under `model.`; supports are not among them.

    Sharded ones stay sharded. Filling these tensors in place fills the model.
    """
    reshard(model)
    saved = model.state_dict().keys()
    tensors: Tensors = {f"model.{canonical(name)}": p.detach() for name, p in model.named_parameters()}
    tensors |= {f"model.{canonical(name)}": b for name, b in model.named_buffers() if name in saved}
    return tensors


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """What the optimizer remembers of each parameter, under `optimizer.<parameter>.<what>`.

    Rates and decays are not among them: they follow from the settings and the step.
    """
    tensors: Tensors = {}
    for name, parameter in trainable(model).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{name}.{key}"] = value
    return tensors


def make_room(
    model: nn.Module, optimizer: torch.optim.Optimizer, saved: dict[str, tuple[torch.Size, torch.dtype]]
) -> None:
    """Give a new optimizer the empty state that a checkpoint can be read into.

    Args:
        model: the model.
        optimizer: an optimizer without a step.
        saved: shape and type of each tensor in the checkpoint.
    """
    for name, parameter in trainable(model).items():
        prefix = f"optimizer.{name}."
        own = optimizer.empty_state(parameter) if isinstance(optimizer, Adam) else {}
        for full in [key for key in saved if key.startswith(prefix) and "." not in key[len(prefix) :]]:
            (shape, dtype), key = saved[full], full[len(prefix) :]
            if key in own and own[key].shape == shape:
                room = own[key]
            elif shape == parameter.shape:  # sharded like its parameter
                room = torch.zeros_like(parameter, dtype=dtype)
            else:
                room = torch.zeros(shape, dtype=dtype, device=parameter.device)
            optimizer.state[parameter][key] = room.detach()


def settle(optimizer: torch.optim.Optimizer) -> None:
    """After a checkpoint was read: make the state fit this number of processes."""
    if isinstance(optimizer, Adam):
        optimizer.settle()


def store_weights(model: nn.Module, weights: Literal["model", "bf16"], beside: Iterable[nn.Parameter] = ()) -> None:
    """Give the parameters the type in which they are trained, in place; buffers keep theirs.

    Args:
        model: before it is sharded.
        weights: see `Optimizer.weights`.
        beside: parameters that are no weights and keep their type.
    """
    kept = {id(parameter) for parameter in beside}
    if weights == "bf16":
        for parameter in model.parameters():
            if id(parameter) not in kept:
                parameter.data = parameter.data.bfloat16()
