"""The gates of a model that is being sheared: parameters beside its weights. b: sequences."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.random import Key
from fallow.shearing.constraint import Constraint
from fallow.shearing.families import Family
from fallow.shearing.groups import Group, best, kept_of
from fallow.shearing.kept import Kept
from fallow.shearing.shape import Axis, Shape
from fallow.shearing.valves import Valves, refuse_reentrant

NAME = "gates"
"""Name of the module that a model gets."""


class Gates(nn.Module):
    """Hard concrete gates of some axes of a decoder, with the multipliers that hold them to a target.

    In training mode every forward pass draws gates; in evaluation mode the best ones of each row are open, as many as
    the target has by now, with the values that they have without noise. After the warm-up that is the model that a cut
    gives.

    All numbers are in fp32, whatever the model's type; every process holds all of them.

    Draws are shared out over the sequences of an update: sequence i of the global batch has draw i modulo `draws`. They
    follow from the key and the number of the update. So nothing has to be saved of them, and they do not depend on how
    the batch was cut into micro-batches and processes.

    Args:
        source: sizes of the model.
        groups: the axes with gates.
        constraint: the distribution, and what pulls.
        draws: different gates in one update. More make their gradients smoother, and cost a little time.
        key: of the draws.
    """

    step: Tensor

    def __init__(self, source: Shape, groups: Sequence[Group], constraint: Constraint, draws: int, key: Key) -> None:
        super().__init__()
        self.source, self.groups, self.constraint = source, {group.axis: group for group in groups}, constraint
        self.draws, self.key = draws, key
        ceiling = constraint.gate.CEILING
        self.log_alpha = nn.ParameterDict({g.axis: nn.Parameter(torch.full(g.shape, ceiling)) for g in groups})
        self.linear = nn.ParameterDict({g.axis: nn.Parameter(torch.zeros(constraint.multipliers(g))) for g in groups})
        self.quadratic = nn.ParameterDict(
            {g.axis: nn.Parameter(torch.zeros(constraint.multipliers(g))) for g in groups}
        )
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._seen = 0
        self._drawn: tuple[int, dict[Axis, Tensor]] = (-1, {})

    def __getstate__(self) -> dict[str, Any]:
        """Without the noise of an update, which follows from its number."""
        return {**vars(self), "_drawn": (-1, {})}

    @property
    def multipliers(self) -> list[nn.Parameter]:
        """All multipliers."""
        return [*self.linear.values(), *self.quadratic.values()]

    def sample(self, num_sequences: int) -> dict[Axis, Tensor]:
        """Gates of this process's next sequences: with a row for each, or without when one draw serves them all."""
        rank, world = (dist.get_rank(), dist.get_world_size()) if _is_together() else (0, 1)
        numbers = [((self._seen + i) * world + rank) % self.draws for i in range(num_sequences)]
        self._seen += num_sequences
        drawn, inverse = torch.unique(torch.tensor(numbers), return_inverse=True)
        found: dict[Axis, Tensor] = {}
        for axis, uniform in self._noise().items():
            log_alpha = self.log_alpha[axis]
            rows = self.constraint.gate.sample(log_alpha, uniform[drawn].to(log_alpha.device))
            found[axis] = rows[0] if len(drawn) == 1 else rows[inverse.to(log_alpha.device)]
        return found

    @torch.no_grad()
    def best(self, keep: Mapping[Axis, int] | None = None) -> dict[Axis, Tensor]:
        """Gates without noise: the best of each row, the others 0.

        Args:
            keep: how many stay in a row of each axis; by default as many as in the end.
        """
        found: dict[Axis, Tensor] = {}
        for axis, group in self.groups.items():
            log_alpha = self.log_alpha[axis]
            mask = best(log_alpha, group.keep if keep is None else keep[axis])
            found[axis] = self.constraint.gate.value(log_alpha) * mask
        return found

    def by_now(self) -> dict[Axis, int]:
        """Units of a row that the target leaves at this step."""
        step = int(self.step)
        return {axis: max(round(self.constraint.target(group, step)), 1) for axis, group in self.groups.items()}

    def penalty(self) -> Tensor:
        """The sum of the constraint's terms at this step, a scalar."""
        step = int(self.step)
        terms = [
            self.constraint.term(group, self.log_alpha[axis], self.linear[axis], self.quadratic[axis], step)
            for axis, group in self.groups.items()
        ]
        return torch.stack(terms).sum()

    def refuse_non_finite(self, step: int) -> None:
        """Look at the gates and their gradients before update number `step`.

        Raises:
            UserError: one is not a number; nothing has been changed.
        """
        seen = [t for p in self.parameters() for t in (p.detach(), p.grad) if t is not None]
        if not bool(torch.stack([torch.isfinite(t).all() for t in seen]).all()):
            bad = next(
                name
                for name, p in self.named_parameters()
                for t in (p, p.grad)
                if t is not None and not t.isfinite().all()
            )
            raise UserError(
                f"gates are not finite at step {step} ({NAME}.{bad}). Stopped before the update: all is as after step "
                f"{step - 1}. Lower method.rate, method.multiplier_rate or optimizer.lr, or look at the data"
            )

    def advance(self, step: int) -> None:
        """After update number `step`: back within bounds, and new draws."""
        for log_alpha in self.log_alpha.values():
            self.constraint.gate.clamp_(log_alpha)
        self.step.fill_(step)
        self._seen = 0

    def kept(self) -> Kept:
        """The units of the target, with their gates."""
        return kept_of(self.source, tuple(self.groups.values()), self.best())

    def _noise(self) -> dict[Axis, Tensor]:
        step = int(self.step)
        if self._drawn[0] != step:
            seed = int(self.key.child(step).words(1)[0]) >> 1
            draw = torch.Generator().manual_seed(seed)
            noise = {
                axis: torch.rand((self.draws, *group.shape), generator=draw) for axis, group in self.groups.items()
            }
            self._drawn = (step, noise)
        return self._drawn[1]


class Gating:
    """Before each forward pass of a model: sets its valves by its gates."""

    def __init__(self, gates: Gates, valves: Valves) -> None:
        self.gates, self.valves = gates, valves

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Draw when training, else take the best."""
        if not model.training:
            self.valves.set(self.gates.best(self.gates.by_now()))
            return
        refuse_reentrant(model)
        given = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs_embeds"))
        self.valves.set(self.gates.sample(int(given.shape[0])))  # type: ignore[union-attr]


def attach(model: nn.Module, family: Family, source: Shape, gates: Gates) -> None:
    """Put gates on a model, under its name `gates`."""
    reference = next(model.parameters())
    valves = Valves(model, family, source, list(gates.groups.values()))
    gating = Gating(gates, valves)
    handle = model.register_forward_pre_hook(gating, with_kwargs=True)
    model.add_module(NAME, gates.to(reference.device))
    vars(model)["_gating"] = (gating, handle)


def detach(model: nn.Module) -> None:
    """Take them off again."""
    gating, handle = vars(model).pop("_gating")
    handle.remove()
    gating.valves.remove(model)
    delattr(model, NAME)


def gates_of(model: nn.Module) -> Gates:
    """The gates of a model."""
    gates = getattr(model, NAME)
    assert isinstance(gates, Gates)
    return gates


def _is_together() -> bool:
    return dist.is_available() and dist.is_initialized()
