"""Shearing: train gates beside the weights, towards a given smaller shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from fallow.errors import UserError
from fallow.linear import Site, Terms
from fallow.methods.base import Method, OwnRate
from fallow.random import Key
from fallow.shearing.constraint import Constraint, Preset
from fallow.shearing.counter import Counter
from fallow.shearing.diagnostics import diagnose
from fallow.shearing.families import family_of
from fallow.shearing.gates import NAME, Gates, attach, detach, gates_of
from fallow.shearing.groups import groups_of
from fallow.shearing.kept import KEPT_FILE
from fallow.shearing.moments import cut_moments
from fallow.shearing.scores.names import Sharing
from fallow.shearing.settings import Target
from fallow.shearing.surgery import cut
from fallow.shearing.target import resized_config, shape_for

_LOOK = 10
"""Updates between two looks whether the gates have converged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shear(Method):
    r"""Targeted structured pruning with learned gates (Xia et al., 2023, Sheared LLaMA, arXiv 2310.06694).

    Every unit that may go (layers, channels of the residual stream, heads, units of the MLP) gets a gate z between 0
    and 1 that multiplies what it gives; see `fallow.shearing`. Weights and gates are trained together on

        loss + sum over axes and rows of    a (S - T) + b (S - T)^2

    with S the expected number of open gates, T the number that stays, and multipliers a, b that ascend while all else
    descends. Merging cuts: the units of the target with the best gates stay, their gates go into the weights, and the
    result is a stock model of the target's shape.

    >>> Shear(to=Target(like="sheared-llama-1.3b")).warmup
    640

    Differs from the paper: every norm of the stream is masked too (so in the released code), or dropped channels would
    leak from the embeddings; log alpha is bounded (so in the released code); an axis whose size stays has no gates.
    Differs from the released code: gates are fp32 and whole on every process, and bounded after each update; validation
    measures the shape that is scheduled by now, not round(S); the cut is exact (see `fallow.shearing.surgery.cut`);
    grouped queries; any subset of axes.
    """

    name: ClassVar[str] = "shear"
    carries: ClassVar[bool] = True

    to: Target
    """The shape to come to: sizes, `like`, or `parameters`."""

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

    until: Literal["budget", "converged"] = "budget"
    """Whether the stage goes on to its budget (the paper), or ends as soon as the gates have converged: the rest of
    the work is cheaper with the smaller model. The next stage can go on with the optimizer's moments
    (`model.moments`)."""

    sharing: Sharing = "auto"
    """Under grouped queries: prune queries `within` each group, `whole` groups, or the same queries of every group
    (`shared`). `auto` follows from the target's heads of keys and values."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Method.__post_init__(self)
        Constraint(self.preset, self.warmup)
        if self.draws < 1:
            raise UserError(f"draws is {self.draws}, but it must be at least 1")
        for name in ("rate", "multiplier_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}, but it must be above 0. The paper's value is 1.0")

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
        source = family.shape_of(stock.config)
        target = shape_for(self.to, stock.config, lambda: Counter.of(model, stock.config))
        groups = groups_of(source, target, self.sharing)
        constraint = Constraint(self.preset, self.warmup)
        attach(model, family, source, Gates(source, groups, constraint, self.draws, key.child(NAME)))
        return f"{sum(group.num_gates for group in groups):,} gates on {', '.join(map(str, groups))}, to {target}"

    def detach(self, model: nn.Module) -> None:
        """Cut the model to the target, in place: its class stays, its configuration and all its parts are new ones."""
        kept = gates_of(model).kept()
        detach(model)
        smaller = cut(model, kept)
        vars(model).clear()
        vars(model).update(vars(smaller))

    def leaves(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The target's sizes in the place of the source's."""
        return resized_config(config, self.to)

    def own_rates(self, model: nn.Module) -> dict[str, OwnRate]:
        """Gates descend, multipliers ascend."""
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

    def is_done(self, model: nn.Module, step: int) -> bool:
        """Whether the gates have converged, looked at every ten updates, if that is what the stage waits for."""
        return self.until == "converged" and step % _LOOK == 0 and diagnose(gates_of(model)).converged

    def carried(self, model: nn.Module, moments: dict[str, torch.Tensor], power: int) -> dict[str, torch.Tensor]:
        """Cut like the weights, and divided by what the weights are multiplied by."""
        stock: Any = model
        weights = {name: moment for name, moment in moments.items() if not name.startswith(f"{NAME}.")}
        return cut_moments(stock.config, gates_of(model).kept(), weights, power)

    def summary(self, model: nn.Module) -> dict[str, Any]:
        """The state of the gates, with a verdict."""
        return diagnose(gates_of(model)).to_dict()

    def write(self, model: nn.Module, folder: Path) -> None:
        """The units that stay, with their gates, so that the cut can be repeated."""
        gates_of(model).kept().save(folder / KEPT_FILE)
