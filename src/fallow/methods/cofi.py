"""CoFi: gates that are held to a number of parameters; layers end with different sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from fallow.errors import UserError
from fallow.linear import Site, Terms
from fallow.methods.base import Method, OwnRate
from fallow.random import Key
from fallow.shearing.budget import BudgetGates
from fallow.shearing.constraint import Constraint
from fallow.shearing.counter import Counter
from fallow.shearing.families import family_of
from fallow.shearing.gates import NAME, attach, detach, gates_of
from fallow.shearing.groups import Group
from fallow.shearing.shape import Shape
from fallow.shearing.surgery import cut


@dataclass(frozen=True, kw_only=True, slots=True)
class CoFi(Method):
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

    preset: Literal["paper", "released"] = "released"
    """Temperature of the gates: 0.83 (`paper`) or 2/3 (`released`)."""

    warmup: int = 640
    """Updates over which the target moves from the source's number to `parameters`."""

    rate: float = 1.0
    """Peak learning rate of log alpha."""

    multiplier_rate: float = 1.0
    """Peak learning rate of the two multipliers, upwards."""

    draws: int = 8
    """Different gates in one update, shared out over its sequences."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Method.__post_init__(self)
        Constraint(self.preset, self.warmup)
        for name in ("parameters", "draws"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, but it must be at least 1")
        for name in ("rate", "multiplier_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}, but it must be above 0. The paper's value is 1.0")

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """No terms: the stock layers stay."""
        return {}

    def attach(self, model: nn.Module, key: Key) -> str:
        """Put gates on the model.

        Raises:
            UserError: a family that is not known, or a number of parameters that it cannot come to.
        """
        stock: Any = model
        if not hasattr(stock, "config"):
            raise UserError(f"{type(model).__name__} is not a Hugging Face model, and only those can be sheared")
        family = family_of(stock.config)
        source = family.shape_of(stock.config)
        counter = Counter.of(model, stock.config)
        most, least = counter.total(source), counter.total(source) - source.layers * counter.layer(source)
        if not least < self.parameters < most:
            raise UserError(
                f"parameters is {self.parameters:,}, but the model has {most:,}, of which {least:,} lie outside the "
                "layers. Write a number between the two"
            )
        constraint = Constraint(self.preset, self.warmup)
        gates = BudgetGates(
            source,
            _groups(source),
            constraint,
            self.draws,
            key.child(NAME),
            counter=counter,
            parameters=self.parameters,
        )
        attach(model, family, source, gates)
        return f"gates on layers, heads and units, to {self.parameters:,} of {most:,} parameters"

    def detach(self, model: nn.Module) -> None:
        """Closed units become zeros; the shape stays."""
        kept = gates_of(model).kept()
        detach(model)
        same = cut(model, kept)
        vars(model).clear()
        vars(model).update(vars(same))

    def own_rates(self, model: nn.Module) -> dict[str, OwnRate]:
        """Gates descend, the two multipliers ascend."""
        gates = gates_of(model)
        ascending = {id(multiplier) for multiplier in gates.multipliers}
        return {
            f"{NAME}.{name}": OwnRate(self.multiplier_rate, ascends=True) if id(p) in ascending else OwnRate(self.rate)
            for name, p in gates.named_parameters()
        }

    def before_step(self, model: nn.Module, step: int) -> None:
        """Add the gradients of the constraint.

        Raises:
            UserError: a gate, or the gradient of one, is not a number.
        """
        gates = gates_of(model)
        gates.penalty().backward()
        gates.refuse_non_finite(step)

    def after_step(self, model: nn.Module, step: int, optimizer: Any) -> None:
        """Bring log alpha back within its bounds; the next update has new draws."""
        gates_of(model).advance(step)

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
