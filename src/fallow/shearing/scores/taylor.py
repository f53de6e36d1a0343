"""Scores from gradients: what the loss would do if a gate began to close."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fallow.shearing.families import Family
from fallow.shearing.groups import Group
from fallow.shearing.scores.example import Example, run
from fallow.shearing.shape import Axis, Shape
from fallow.shearing.valves import Valves


def taylor(
    model: nn.Module, family: Family, source: Shape, groups: Sequence[Group], examples: Sequence[Example]
) -> dict[Axis, Tensor]:
    """abs(dL/dz) at open gates z = 1, averaged over the examples: first-order importance by unit.

    It is the score of Michel et al. (2019, arXiv 1905.10650) for heads, and LLM-Pruner's (arXiv 2305.11627), whose sum
    of weight times gradient over the weights of a unit equals the gradient of its gate. No gradient of a weight is
    computed.
    """
    if not groups:
        return {}
    device = next(model.parameters()).device
    gates = {group.axis: torch.ones(group.shape, device=device, requires_grad=True) for group in groups}
    totals = {axis: torch.zeros(gate.shape, dtype=torch.float64) for axis, gate in gates.items()}

    def see(loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, list(gates.values()))
        for total, gradient in zip(totals.values(), gradients, strict=True):
            total += gradient.abs().double().cpu()
        valves.set(gates)  # the graph of the last pass is gone

    frozen = {parameter: parameter.requires_grad for parameter in model.parameters()}
    valves = Valves(model, family, source, groups)
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        valves.set(gates)
        run(model, examples, see)
    finally:
        valves.remove(model)
        for parameter, required in frozen.items():
            parameter.requires_grad_(required)
    return {axis: total / len(examples) for axis, total in totals.items()}
