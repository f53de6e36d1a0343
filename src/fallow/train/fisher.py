"""Squared gradients of a pretrained model on some of its data: which entries a task pulls at."""

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.linear.inputs import is_conv1d
from fallow.train.objective import Objective


def squared_gradients(
    model: nn.Module, objective: Objective, batches: Iterable[Any], names: Collection[str]
) -> dict[str, Tensor]:
    r"""The mean over batches of the squared gradient of each entry: the diagonal of the empirical Fisher information.

        F = 1/n sum_b (d loss_b / d W)^2        with loss_b the mean over the labels of batch b

    The model is as it was afterwards, in mode and in what it trains. RoSA (Nikdan et al., 2024) chooses its supports by
    this; it takes the gradients of single samples, which is the same for batches of one.

    Args:
        model: stock, on its device.
        objective: (model, batch) -> loss summed over labels.
        batches: with `num_valid` and `to(device)`.
        names: the linear layers whose weights are looked at.

    Returns:
        (d_out, d_in) on the CPU, by name of layer.

    Raises:
        UserError: there is no batch with a label.
    """
    weights = {name: model.get_submodule(name).get_parameter("weight") for name in names}
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    was_training = model.training
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    model.requires_grad_(False).eval()
    for weight in weights.values():
        weight.requires_grad_(True)
    device, num = next(model.parameters()).device, 0
    for batch in batches:
        if not batch.num_valid:
            continue
        loss = objective(model, batch.to(device)) / batch.num_valid
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            sums[name] += gradient.detach() ** 2
        num += 1
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[name])
    model.train(was_training)
    if not num:
        raise UserError("no batch has a label, so there are no gradients to choose a support by")
    return {
        name: (total.t() if is_conv1d(model.get_submodule(name)) else total).cpu() / num for name, total in sums.items()
    }
