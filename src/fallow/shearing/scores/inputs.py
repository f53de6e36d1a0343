"""Scores from what the layers read: activation norm, Wanda, fluctuation. c: channels that a layer reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fallow.shearing.families import Family
from fallow.shearing.scores.example import Example, run
from fallow.shearing.scores.units import UnitScores
from fallow.shearing.shape import Shape
from fallow.shearing.slots import Slot

InputScore = Literal["activation", "wanda", "fluctuation"]

_READS: tuple[Slot, ...] = ("hidden", "context", "product")
"""Slots of a matrix's input dimension."""


@dataclass(slots=True)
class Inputs:
    """Running sums over everything that a layer has read."""

    slot: Slot
    layer: int | None
    dim: int
    """The input dimension of its weight as it is stored."""

    num: int = 0
    sum_c: Tensor | float = 0.0
    squares_c: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        """Take in inputs of shape (..., c)."""
        flat = x.detach().float().flatten(0, -2)
        self.num += flat.shape[0]
        self.sum_c = self.sum_c + flat.sum(0).double().cpu()
        self.squares_c = self.squares_c + flat.square().sum(0).double().cpu()

    @property
    def mean_square_c(self) -> Tensor:
        """Mean of the squares by channel."""
        return torch.as_tensor(self.squares_c) / self.num

    @property
    def variance_c(self) -> Tensor:
        """Variance by channel."""
        mean = torch.as_tensor(self.sum_c) / self.num
        return (self.mean_square_c - mean * mean).clamp(min=0.0)


def input_scores(
    model: nn.Module, family: Family, source: Shape, examples: Sequence[Example], kind: InputScore
) -> UnitScores:
    r"""Scores of what each matrix reads, added up over all matrices that read a unit.

    With x_c the inputs of a channel over all positions, and W_rc the weights that read it:

        activation     sqrt(mean(x_c^2))                                 as Minitron ranks units (arXiv 2407.14679)
        wanda          sum_r abs(W_rc) sqrt(mean(x_c^2))                 Wanda's score (arXiv 2306.11695), by unit
        fluctuation    var(x_c) sum_r W_rc^2                             FLAP's score (arXiv 2312.11983)

    Differs from the papers: Wanda prunes single weights, here its scores are summed over those that go with a unit;
    FLAP makes up for what is lost with biases, and lets layers differ in width, which a stock model cannot.
    """
    found = _watch(model, family, examples)
    scores = UnitScores(source)
    for name, inputs in found.items():
        weight = model.get_submodule(name).get_parameter("weight").detach().float().cpu()
        weight_rc = weight.t() if inputs.dim == 0 else weight
        by_channel: Callable[[], Tensor] = {
            "activation": inputs.mean_square_c.sqrt,
            "wanda": lambda: weight_rc.abs().sum(0).double() * inputs.mean_square_c.sqrt(),  # noqa: B023 - used at once
            "fluctuation": lambda: weight_rc.square().sum(0).double() * inputs.variance_c,  # noqa: B023
        }[kind]
        scores.add(inputs.slot, by_channel(), inputs.layer)
    return scores


@torch.no_grad()
def _watch(model: nn.Module, family: Family, examples: Sequence[Example]) -> dict[str, Inputs]:
    found: dict[str, Inputs] = {}
    handles = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        module_name, _, kind = name.rpartition(".")
        slots, layer = family.slots_of(name)
        dim = next((d for d, slot in enumerate(slots) if slot in _READS), -1)
        module = model.get_submodule(module_name)
        if kind != "weight" or parameter.ndim != 2 or dim < 0 or isinstance(module, nn.Embedding):
            continue
        found[module_name] = Inputs(slots[dim], layer, dim)
        handles.append(module.register_forward_pre_hook(_Watch(found[module_name])))
    try:
        run(model, examples)
    finally:
        for handle in handles:
            handle.remove()
    return found


class _Watch:
    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.inputs.add(args[0])
