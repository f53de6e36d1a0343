"""The tensors of a model and its optimizer by name, whole or sharded."""

import torch
from torch import nn

from fallow.train.distributed import reshard
from fallow.train.optimizers import canonical, trainable

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
        for full in [key for key in saved if key.startswith(prefix) and "." not in key[len(prefix) :]]:
            shape, dtype = saved[full]
            if shape == parameter.shape:  # sharded like its parameter
                room = torch.zeros_like(parameter, dtype=dtype)
            else:
                room = torch.zeros(shape, dtype=dtype, device=parameter.device)
            optimizer.state[parameter][full[len(prefix) :]] = room.detach()
