"""What methods that train gates have in common: their settings, their rates, and the constraint in every step."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fallow.errors import UserError
from fallow.linear import Site, Terms
from fallow.methods.base import AttachesModules, Method, Monitored, ParamOverride
from fallow.random import Key
from fallow.shearing.constraint import Constraint, Preset
from fallow.shearing.families import Family, family_of
from fallow.shearing.gates import NAME, Gates, attach, detach, gates_of
from fallow.shearing.surgery import cut


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedMethod(Method, AttachesModules, Monitored):
    """Gates beside the weights, trained with them against multipliers that hold a constraint.

    The weights descend, the gates descend by a rate of their own, the multipliers ascend. Merging cuts the model to the
    units whose gates are open.
    """

    preset: Preset = "paper"
    """Temperature and form of the constraint: `paper` (0.83, units, multipliers for each row), `released` (2/3,
    fractions, one pair of multipliers for an axis), `reachable` (2/3, rows, probabilities stretched so that decided
    gates can meet the target)."""

    warmup: int = 640
    """Updates over which the target moves from the source's sizes to those of the end; 20% of the budget in the
    paper."""

    rate: float = 1.0
    """Peak learning rate of log alpha; it follows the schedule of the weights. Adam moves a gate by about this much in
    an update, and its whole range is 9.2."""

    multiplier_rate: float = 1.0
    """Peak learning rate of the multipliers, upwards."""

    draws: int = 8
    """Different gates in one update, shared out over its sequences; the released run had one for each of 8
    micro-batches. More give smoother gradients of the gates."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Method.__post_init__(self)
        Constraint(self.preset, self.warmup)
        if self.draws < 1:
            raise UserError(f"draws is {self.draws}, but it must be at least 1")
        for name in ("rate", "multiplier_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}, but it must be above 0. The paper's value is 1.0")

    @abstractmethod
    def make_gates(self, model: Any, family: Family, key: Key) -> tuple[Gates, str]:
        """The gates for this model, and what to say about them.

        Raises:
            UserError: an axis or target that does not fit.
        """

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """No terms: the stock layers stay."""
        return {}

    def attach(self, model: nn.Module, key: Key) -> str:
        """Put gates on the model.

        Raises:
            UserError: a family, axis or target that does not fit.
        """
        stock: Any = model
        if not hasattr(stock, "config"):
            raise UserError(f"{type(model).__name__} is not a Hugging Face model, and only those can be sheared")
        family = family_of(stock.config)
        gates, text = self.make_gates(stock, family, key.child(NAME))
        attach(model, family, family.shape_of(stock.config), gates)
        return text

    def detach(self, model: nn.Module) -> nn.Module:
        """A new model without the closed units; what was open goes into its weights."""
        kept = gates_of(model).kept()
        detach(model)
        return cut(model, kept)

    def param_overrides(self, model: nn.Module) -> dict[str, ParamOverride]:
        """Gates descend, multipliers ascend."""
        gates = gates_of(model)
        ascending = {id(multiplier) for multiplier in gates.multipliers}
        descends, ascends = ParamOverride(lr=self.rate), ParamOverride(lr=self.multiplier_rate, maximize=True)
        return {f"{NAME}.{name}": ascends if id(p) in ascending else descends for name, p in gates.named_parameters()}

    def before_step(self, model: nn.Module, step: int) -> None:
        """Add the gradients of the constraint.

        Raises:
            UserError: a gate, or the gradient of one, is not a number.
        """
        gates = gates_of(model)
        gates.penalty().backward()
        gates.refuse_non_finite(step)

    def after_step(self, model: nn.Module, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Bring log alpha back within its bounds; the next update has new draws."""
        gates_of(model).advance(step)
