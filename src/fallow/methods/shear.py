"""Shearing: train gates beside the weights, towards a given smaller shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from fallow.methods.base import ChangesShape, TransfersOptimizerState, WritesExtraFiles
from fallow.methods.gated import GatedMethod
from fallow.random import Key
from fallow.shearing.constraint import Constraint
from fallow.shearing.counter import Counter
from fallow.shearing.diagnostics import diagnose
from fallow.shearing.families import Family
from fallow.shearing.gates import NAME, Gates, gates_of
from fallow.shearing.groups import groups_of
from fallow.shearing.kept import KEPT_FILE
from fallow.shearing.moments import cut_moments
from fallow.shearing.scores.names import Sharing
from fallow.shearing.settings import Target
from fallow.shearing.target import resized_config, shape_for

_LOOK = 10
"""Updates between two looks whether the gates have converged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shear(GatedMethod, ChangesShape, TransfersOptimizerState, WritesExtraFiles):
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

    to: Target
    """The shape to come to: sizes, `like`, or `parameters`."""

    until: Literal["budget", "converged"] = "budget"
    """Whether the stage goes on to its budget (the paper), or ends as soon as the gates have converged: the rest of
    the work is cheaper with the smaller model. The next stage can go on with the optimizer's moments
    (`model.moments`)."""

    sharing: Sharing = "auto"
    """Under grouped queries: prune queries `within` each group, `whole` groups, or the same queries of every group
    (`shared`). `auto` follows from the target's heads of keys and values."""

    def make_gates(self, model: Any, family: Family, key: Key) -> tuple[Gates, str]:
        """A gate for every unit of each axis that changes."""
        source = family.shape_of(model.config)
        target = shape_for(self.to, model.config, lambda: Counter.of(model, model.config))
        groups = groups_of(source, target, self.sharing)
        gates = Gates(source, groups, Constraint(self.preset, self.warmup), self.draws, key)
        return gates, f"{sum(g.num_gates for g in groups):,} gates on {', '.join(map(str, groups))}, to {target}"

    def output_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The target's sizes in the place of the source's."""
        return resized_config(config, self.to)

    def should_stop(self, model: nn.Module, step: int) -> bool:
        """Whether the gates have converged, looked at every ten updates, if that is what the stage waits for."""
        return self.until == "converged" and step % _LOOK == 0 and diagnose(gates_of(model)).converged

    def map_optimizer_state(
        self, model: nn.Module, moments: dict[str, Tensor], power: Literal[1, 2]
    ) -> dict[str, Tensor]:
        """Cut like the weights, and divided by what the weights are multiplied by."""
        stock: Any = model
        weights = {name: moment for name, moment in moments.items() if not name.startswith(f"{NAME}.")}
        return cut_moments(stock.config, gates_of(model).kept(), weights, power)

    def summary(self, model: nn.Module) -> dict[str, Any]:
        """The state of the gates, with a verdict."""
        return diagnose(gates_of(model)).to_dict()

    def write_extra_files(self, model: nn.Module, folder: Path) -> None:
        """The units that stay, with their gates, so that the cut can be repeated."""
        gates_of(model).kept().save(folder / KEPT_FILE)
