"""CoFi: gates that are held to a number of parameters; layers end with different sizes."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from fallow.errors import UserError
from fallow.methods.gated import GatedMethod
from fallow.random import Key
from fallow.shearing.budget import BudgetGates
from fallow.shearing.constraint import Constraint, Preset
from fallow.shearing.counter import Counter
from fallow.shearing.families import Family
from fallow.shearing.gates import Gates, gates_of
from fallow.shearing.groups import Group
from fallow.shearing.shape import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class CoFi(GatedMethod):
    r"""Structured pruning to a number of parameters (CoFi; Xia et al., 2022, arXiv 2204.00408).

    It is the baseline of Sheared-LLaMA's Table 4.

    Layers, heads and units of the MLP get gates as in method `shear`, but one constraint holds the whole model, so that
    every layer may keep another number of them; see `fallow.shearing.budget.BudgetGates`. No stock configuration can
    say that, so merging leaves the source's shape: closed units are zeros in their weights, and the outputs are those
    of the model without them. It shows what the freedom is worth before training goes on, which would bring zeros back.

    >>> CoFi(parameters=1_300_000_000).warmup
    640

    Differs from the paper: no distillation from the source, and no gates on channels of the residual stream,
    whose norms would average over another number in a merged model.
    """

    name: ClassVar[str] = "cofi"

    parameters: int
    """How many are to stay, embeddings included."""

    preset: Preset = "released"
    """Temperature of the gates: 0.83 (`paper`) or 2/3 (`released`)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        GatedMethod.__post_init__(self)
        if self.parameters < 1:
            raise UserError(f"parameters is {self.parameters}, but it must be at least 1")
        if self.preset == "reachable":
            raise UserError("preset is reachable, which is for method shear. Write paper or released")

    def make_gates(self, model: Any, family: Family, key: Key) -> tuple[Gates, str]:
        """A gate for every layer, head and unit of the MLP, under one budget."""
        source, counter = family.shape_of(model.config), Counter.of(model, model.config)
        most, least = counter.total(source), counter.total(source) - source.layers * counter.layer(source)
        if not least < self.parameters < most:
            raise UserError(
                f"parameters is {self.parameters:,}, but the model has {most:,}, of which {least:,} lie outside the "
                "layers. Write a number between the two"
            )
        gates = BudgetGates(
            source,
            _groups(source),
            Constraint(self.preset, self.warmup),
            self.draws,
            key,
            counter=counter,
            parameters=self.parameters,
        )
        return gates, f"gates on layers, heads and units, to {self.parameters:,} of {most:,} parameters"

    def summary(self, model: nn.Module) -> dict[str, Any]:
        """Numbers of parameters wanted, expected and left, open units by layer."""
        gates = gates_of(model)
        assert isinstance(gates, BudgetGates)
        return gates.diagnosis()


def _groups(source: Shape) -> tuple[Group, ...]:
    """Every gate; how many stay is not said by row."""
    rows = (source.layers, source.kv_heads) if source.group > 1 else (source.layers,)
    sharing: Literal["within", "whole"] = "within" if source.group > 1 else "whole"
    return (
        Group("layers", (), source.layers, 1),
        Group("heads", rows, source.group if source.group > 1 else source.heads, 1, sharing),
        Group("inner", (source.layers,), source.inner, 1),
    )
