"""How far gates are: sizes, undecided ones, the margin of the choice, and whether that is an end."""

from dataclasses import dataclass
from typing import Any

import torch

from fallow.shearing.gates import Gates
from fallow.shearing.groups import Group
from fallow.shearing.shape import Axis

UNDECIDED = (0.05, 0.95)
"""Between these probabilities of being open a gate is undecided. Probabilities are stretched so that the bounds on log
alpha are 0 and 1; without that, no gate of the paper's temperature could ever be closed."""

SIZE, SHARE, MARGIN = 0.05, 0.05, 0.1
"""What converged means: size met to 5%, at most 5% undecided, a margin of at least 0.1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AxisState:
    """The gates of one axis."""

    axis: Axis
    size: int
    """Units in a row."""

    target: int
    """Units that stay in the end."""

    by_now: float
    """Units that the target leaves at this step."""

    expected: float
    """Units expected to be open, as the constraint counts them; mean over rows."""

    expected_worst: float
    """The same of the row that is farthest from `by_now`."""

    open: float
    """Units more likely open than not; mean over rows."""

    undecided: float
    """Share of the gates whose probability of being open is between 0.05 and 0.95."""

    margin: float
    """Probability of being open of the last unit that stays, minus that of the first that does not; the mean over rows,
    at the target's size. Around 0 the choice between them is noise."""

    margin_worst: float
    """The same of the row where it is smallest."""

    linear: float
    """Mean of the linear multipliers."""

    quadratic: float
    """Mean of the quadratic ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """All axes, and a verdict."""

    step: int
    axes: tuple[AxisState, ...]
    reasons: tuple[str, ...]
    """Why the gates have not converged; empty when they have."""

    @property
    def converged(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """One line."""
        return "converged" if self.converged else f"not converged, because {'; '.join(self.reasons)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        from dataclasses import asdict

        axes = {state.axis: {key: v for key, v in asdict(state).items() if key != "axis"} for state in self.axes}
        return {"step": self.step, "axes": axes, "converged": self.converged, "verdict": self.verdict}


@torch.no_grad()
def diagnose(gates: Gates) -> Diagnosis:
    """Look at the gates as they are."""
    step = int(gates.step)
    states = tuple(_state(gates, group, step) for group in gates.groups.values())
    reasons = []
    if step < gates.constraint.warmup:
        reasons.append(f"the target is still on its way (update {step} of {gates.constraint.warmup})")
    for state in states:
        reasons += _reasons(state)
    return Diagnosis(step=step, axes=states, reasons=tuple(reasons))


def _state(gates: Gates, group: Group, step: int) -> AxisState:
    axis = group.axis
    log_alpha = gates.log_alpha[axis].detach().float().cpu()
    chance = gates.constraint.stretched(log_alpha)
    expected = gates.constraint.expected(log_alpha).flatten()
    by_now = gates.constraint.target(group, step)
    ranked = chance.sort(dim=-1, descending=True).values
    margin = (ranked[..., group.keep - 1] - ranked[..., group.keep]).flatten()
    low, high = UNDECIDED
    return AxisState(
        axis=axis,
        size=group.size,
        target=group.keep,
        by_now=by_now,
        expected=float(expected.mean()),
        expected_worst=float(expected[(expected - by_now).abs().argmax()]),
        open=float((chance > 0.5).sum(-1).float().mean()),
        undecided=float(((chance > low) & (chance < high)).float().mean()),
        margin=float(margin.mean()),
        margin_worst=float(margin.min()),
        linear=float(gates.linear[axis].mean()),
        quadratic=float(gates.quadratic[axis].mean()),
    )


def _reasons(state: AxisState) -> list[str]:
    found = []
    off = abs(state.expected_worst - state.by_now)
    if off > max(SIZE * state.target, 0.5):
        found.append(f"{state.axis} expects {state.expected_worst:.1f} open of {state.by_now:.1f} wanted")
    if state.undecided > SHARE and state.undecided * state.size > 1:
        found.append(f"{state.undecided:.0%} of the gates of {state.axis} are undecided")
    if state.margin < MARGIN:
        found.append(
            f"the margin of {state.axis} between what stays and what goes is {state.margin:.3f}, which is noise"
        )
    return found
