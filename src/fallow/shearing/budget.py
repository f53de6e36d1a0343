"""Gates that are held to a number of parameters, not to a shape: layers end with different sizes.

L: layers, s: sparsity, S: expected number of open gates of a row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fallow.random import Key
from fallow.shearing.constraint import Constraint
from fallow.shearing.counter import Counter
from fallow.shearing.diagnostics import UNDECIDED
from fallow.shearing.gates import Gates
from fallow.shearing.groups import Group, best, by_head
from fallow.shearing.kept import Kept
from fallow.shearing.shape import Axis, Shape


class BudgetGates(Gates):
    r"""Gates with one pair of multipliers on the model's number of parameters (CoFi, Xia et al., 2022, 2204.00408).

        a (s - t) + b (s - t)^2,    s = 1 - P / P_source

    with P the expected number of parameters, a product of sums for each layer: P(layer stays) times (its heads' and its
    units' expected parameters, and what they share), plus what lies outside the layers. t goes from 0 to its end in a
    straight line over the warm-up. Nothing holds single rows, so layers end with different numbers of heads and units.

    Args:
        source: sizes of the model.
        groups: the axes with gates: layers, heads, inner, or some of them.
        constraint: the distribution, and the warm-up.
        draws: as for `Gates`.
        key: of the draws.
        counter: counts the parameters of the source in other shapes.
        parameters: how many are to stay.
    """

    def __init__(
        self,
        source: Shape,
        groups: Sequence[Group],
        constraint: Constraint,
        draws: int,
        key: Key,
        *,
        counter: Counter,
        parameters: int,
    ) -> None:
        super().__init__(source, groups, constraint, draws, key)
        self.linear = nn.ParameterDict({"all": nn.Parameter(torch.zeros(()))})
        self.quadratic = nn.ParameterDict({"all": nn.Parameter(torch.zeros(()))})
        self.num_source, self.num_target = counter.total(source), parameters
        layer = counter.layer(source)
        self.outside = self.num_source - source.layers * layer
        self.by_unit = layer - counter.layer(source.with_sizes(inner=source.inner - 1))
        fewer = {group.axis: _one_fewer(source, group) for group in groups}.get("heads", {})
        self.by_head = layer - counter.layer(source.with_sizes(**fewer))
        self.shared = layer - self.by_unit * source.inner
        if "heads" in self.groups:
            self.shared -= self.by_head * (self.groups["heads"].num_gates // source.layers)

    def expected_parameters(self, chances: Mapping[Axis, Tensor]) -> Tensor:
        """P for these probabilities (or masks), a scalar; one of `layers`, `heads`, `inner` that is absent is open."""
        inner_l: Any = chances["inner"].sum(-1) if "inner" in chances else float(self.source.inner)
        heads_l: Any = chances["heads"].flatten(1).sum(-1) if "heads" in chances else 0.0
        inside_l = self.shared + self.by_unit * inner_l + self.by_head * heads_l
        layers_l: Any = chances["layers"] if "layers" in chances else torch.ones(self.source.layers)
        total: Tensor = (layers_l.to(inside_l) * inside_l).sum() + self.outside
        return total

    def target_sparsity(self, step: int) -> float:
        """The t that holds after `step` updates."""
        warmup = self.constraint.warmup
        return (1 - self.num_target / self.num_source) * (min(1.0, step / warmup) if warmup else 1.0)

    def penalty(self) -> Tensor:
        """The one term."""
        excess = self._sparsity() - self.target_sparsity(int(self.step))
        term: Tensor = self.linear["all"] * excess + self.quadratic["all"] * excess * excess
        return term

    @torch.no_grad()
    def best(self, keep: Mapping[Axis, int] | None = None) -> dict[Axis, Tensor]:
        """Gates without noise: in each row as many of the best as are expected to be open, the others 0.

        Args:
            keep: without effect: rows keep what they have come to.
        """
        found: dict[Axis, Tensor] = {}
        for axis, log_alpha in self._log_alphas().items():
            count = self.constraint.gate.open(log_alpha).sum(-1).round().long()
            found[axis] = self.constraint.gate.value(log_alpha) * best(log_alpha, count)
        return found

    def by_now(self) -> dict[Axis, int]:
        """Nothing is scheduled by row."""
        return {}

    def kept(self) -> Kept:
        """All units of the source, closed ones with a gate of 0."""
        gates = {axis: gate.detach().cpu() for axis, gate in self.best().items()}
        source, whole = self.source, Kept.of(self.source)
        heads = by_head(self.groups["heads"], source, gates["heads"]) if "heads" in gates else whole.head_gates_lh
        return whole.with_gates(
            layers=gates.get("layers", whole.layer_gates_l),
            hidden=whole.hidden_gates_d,
            heads=heads,
            inner=gates.get("inner", whole.inner_gates_lm),
        )

    @torch.no_grad()
    def diagnosis(self) -> dict[str, Any]:
        """What there is to tell, as JSON values."""
        step, low, high = int(self.step), *UNDECIDED
        masks = {axis: (gate > 0).float() for axis, gate in self.best().items()}
        chances = {axis: self.constraint.stretched(alpha.detach()) for axis, alpha in self._log_alphas().items()}
        undecided = {axis: float(((c > low) & (c < high)).float().mean()) for axis, c in chances.items()}
        expected = 1 - float(self._sparsity())
        return {
            "step": step,
            "parameters": {
                "source": self.num_source,
                "target": self.num_target,
                "by_now": round((1 - self.target_sparsity(step)) * self.num_source),
                "expected": round(expected * self.num_source),
                "realised": round(float(self.expected_parameters(masks))),
            },
            "open": {axis: mask.flatten(1).sum(-1).tolist() if mask.ndim > 1 else mask.tolist()
                     for axis, mask in masks.items()},
            "undecided": undecided,
            "linear": float(self.linear["all"]),
            "quadratic": float(self.quadratic["all"]),
        }  # fmt: skip

    def _log_alphas(self) -> dict[Axis, Tensor]:
        return {axis: self.log_alpha[axis] for axis in self.groups}

    def _sparsity(self) -> Tensor:
        chances = {axis: self.constraint.gate.open(alpha) for axis, alpha in self._log_alphas().items()}
        return 1 - self.expected_parameters(chances) / self.num_source


def _one_fewer(source: Shape, group: Group) -> dict[str, int]:
    """Heads of a layer with one gate less."""
    if group.sharing == "whole":
        return {"heads": source.heads - source.group, "kv_heads": source.kv_heads - 1}
    return {"heads": source.heads - (source.kv_heads if group.sharing == "shared" else 1)}
