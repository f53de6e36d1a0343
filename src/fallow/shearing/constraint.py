"""What pulls gates towards the target: Lagrange multipliers on the expected size.

n: units in a row, T: how many of them stay, S: how many are expected to be open.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fallow.errors import UserError, unknown
from fallow.shearing.concrete import HardConcrete
from fallow.shearing.groups import Group

Preset = Literal["paper", "released", "reachable"]
"""A temperature and a form of the constraint; see `Constraint`."""

TEMPERATURES: dict[str, float] = {"paper": 0.83, "released": 2.0 / 3.0, "reachable": 2.0 / 3.0}


@dataclass(frozen=True, slots=True)
class Constraint:
    r"""Lagrange terms that are made small by the gates and large by their multipliers a and b.

    For each axis, with S = sum of P(z > 0) over a row of n gates and T the number that stays:

        paper        sum over rows    a_row (S - T) + b_row (S - T)^2
        released     mean over rows   a (s - t) + b (s - t)^2,    s = 1 - S / n,  t = 1 - T / n
        reachable    mean over rows   a_row (s - t) + b_row (s - t)^2,  S of stretched probabilities

    During the warm-up T moves from n to its end in a straight line.

    In units the terms grow with the width: at usual rates they swamp the loss, and gates stay equal and undecided. In
    fractions the loss can tell units apart.

    With the first two, a row whose gates are all decided still expects 5% (7%) of the closed ones to be open. So at
    S = T fewer than T are open, and the last ones that stay are drawn from those that are as closed as the dropped
    ones. `reachable` stretches probabilities from what the bounds on log alpha allow to 0..1: decided gates that meet
    the constraint are exactly T.

    Differs from the released code: an axis whose size stays has no gates and no term (there its target can not be met
    and the multipliers move for ever).
    """

    preset: Preset
    warmup: int
    """Updates until the target is that of the end."""

    def __post_init__(self) -> None:
        if self.preset not in TEMPERATURES:
            raise UserError(f"preset: {unknown('preset', self.preset, TEMPERATURES)}")
        if self.warmup < 0:
            raise UserError(f"warmup is {self.warmup}, but it is a number of updates: at least 0")

    @property
    def gate(self) -> HardConcrete:
        """The distribution of the gates."""
        return HardConcrete(TEMPERATURES[self.preset])

    def multipliers(self, group: Group) -> tuple[int, ...]:
        """Shape of each of the two multipliers of a group."""
        return () if self.preset == "released" else group.rows

    def target(self, group: Group, step: int) -> float:
        """T after `step` updates."""
        share = min(1.0, step / self.warmup) if self.warmup else 1.0
        return group.size + (group.keep - group.size) * share

    def expected(self, log_alpha: Tensor) -> Tensor:
        """S of each row, as this form counts it."""
        chance = self.stretched(log_alpha) if self.preset == "reachable" else self.gate.open(log_alpha)
        return chance.sum(-1)

    def stretched(self, log_alpha: Tensor) -> Tensor:
        """P(z > 0), stretched so that the bounds on log alpha are 0 and 1."""
        low, high = (float(end) for end in self.gate.open(torch.tensor([-1.0, 1.0]) * HardConcrete.CEILING))
        return (self.gate.open(log_alpha) - low) / (high - low)

    def term(self, group: Group, log_alpha: Tensor, linear: Tensor, quadratic: Tensor, step: int) -> Tensor:
        """The term of one axis, a scalar."""
        target = self.target(group, step)
        excess = self.expected(log_alpha) - target
        if self.preset == "paper":
            return (linear * excess + quadratic * excess * excess).sum()
        excess = -excess / group.size  # of sparsity
        return (linear * excess + quadratic * excess * excess).mean()
