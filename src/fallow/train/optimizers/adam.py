"""AdamW made of parts: how moments are stored, in which subspace they live, how weights are written."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fallow.train.optimizers import projection, rounding
from fallow.train.optimizers.groups import Group
from fallow.train.optimizers.moments import FIRST, NAMES, SECOND, Moments, State, put
from fallow.train.optimizers.parameters import local, local_offset
from fallow.train.optimizers.settings import SMALL, GaLore

PIECE = 1 << 18
"""Entries that are updated at once: what a step needs for a moment does not grow with the parameter."""

BASIS = "projector"


class Adam(torch.optim.Optimizer):
    r"""AdamW (Loshchilov & Hutter, 2019) whose moments may be 8-bit or projected and whose weights may be bfloat16.

        m <- beta1 m + (1 - beta1) g,    v <- beta2 v + (1 - beta2) g^2
        w <- w - rate (weight_decay w + d),    d = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    All arithmetic is in fp32, on pieces of 2^18 entries. The update is made with the moments before they are rounded.
    With a projection (see `GaLore`) g is the projected gradient, and d is projected back and multiplied by its scale.

    Its state is tensors alone, sharded as the parameters are: `step`, `exp_avg`, `exp_avg_sq`, with `_scale` beside
    them where they are 8-bit, and `projector`.

    Args:
        groups: as torch takes them; a group may hold `projection`, `maximize` and whatever is a default here.
        lr: rate of groups that give none.
        betas: how slowly the means forget.
        eps: added to the root.
        block: entries that share a scale in 8-bit moments; 0 for moments in full. Of parameters with fewer than
            `small` entries they are always in full.
        streams: keys of the random numbers by which bfloat16 weights are rounded; without one, to the nearest.
        small: see `block`.

    Attributes:
        found_inf: when set, a scalar tensor; where it is not 0, a step changes neither weights nor moments. torch's
            optimizers know the same attribute.
    """

    def __init__(
        self,
        groups: Iterable[Group],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        block: int = 0,
        streams: Mapping[Tensor, int] | None = None,
        small: int = SMALL,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "maximize": False, "projection": None}
        self.block, self.small, self.streams = block, small, dict(streams or {})
        self.found_inf: Tensor | None = None
        self._targets: dict[Tensor, GaLore | None] = {}
        super().__init__(groups, defaults)

    def add_param_group(self, param_group: Group) -> None:
        """Take in a group of parameters."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        self._targets |= dict.fromkeys(group["params"], group["projection"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "the loss is not computed again"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def empty_state(self, parameter: Tensor) -> State:
        """The state of a parameter before its first step."""
        target = self._targets[parameter]
        state: State = {"step": torch.zeros(())}
        like = parameter.detach()
        if target is not None:
            shape = tuple(parameter.shape)
            like = like.new_empty(projection.low_shape(shape, target.rank))
            state[BASIS] = parameter.new_zeros(min(shape), target.rank)
        return state | self._moments(parameter).empty(like)

    def settle(self) -> None:
        """Make the state fit that a checkpoint of another number of processes left."""
        for parameter, state in self.state.items():
            if self._targets[parameter] is None:  # what is projected has been on one process all along
                self._moments(parameter).settle(state, parameter)

    @torch.no_grad()
    def edit_state(self, parameter: Tensor, edit: Callable[[str, Tensor], Tensor]) -> None:
        """Replace each moment of a parameter by a function of it; see `fallow.methods.base.edit_optimizer_state`.

        Moments of a projected gradient come in the shape that they have.
        """
        if not (state := self.state.get(parameter)):
            return
        moments = self._moments(parameter)
        for name in NAMES:
            whole = torch.empty_like(state[name], dtype=torch.float32)
            local(whole).view(-1).copy_(moments.read(state, name))
            moments.write(state, name, local(edit(name, whole)).reshape(-1))

    def _update(self, parameter: Tensor, group: Group) -> None:
        assert parameter.grad is not None
        refused = None if self.found_inf is None else self.found_inf > 0
        target, state = self._targets[parameter], self.state[parameter]
        if not state:
            state.update(self.empty_state(parameter))
        state["step"] += 1
        step = int(state["step"])
        gradient = local(parameter.grad)
        if target is None:
            flat = gradient.reshape(-1)
            for start, stop in _pieces(flat.numel()):
                direction = self._direction(parameter, flat[start:stop], start, step, group, refused)
                self._write(parameter, direction, start, step, group, refused)
            return
        if (step - 1) % target.every == 0:
            if refused is not None and bool(refused):  # a gradient that is not finite has no singular vectors
                return
            state[BASIS].copy_(projection.basis_of(gradient, target.rank))
        low = projection.project(gradient, state[BASIS])
        flat = low.view(-1)
        for start, stop in _pieces(flat.numel()):
            flat[start:stop] = self._direction(parameter, flat[start:stop], start, step, group, refused)
        update = projection.project_back(low, state[BASIS], tuple(parameter.shape)).mul_(target.scale).view(-1)
        for start, stop in _pieces(update.numel()):
            self._write(parameter, update[start:stop], start, step, group, refused)

    def _direction(
        self, parameter: Tensor, gradient: Tensor, start: int, step: int, group: Group, refused: Tensor | None
    ) -> Tensor:
        """D for one piece; the moments move on."""
        state, moments, (beta1, beta2) = self.state[parameter], self._moments(parameter), group["betas"]
        gradient = -gradient.float() if group["maximize"] else gradient.float()
        stop = start + gradient.numel()
        first = moments.read(state, FIRST, start, stop).lerp(gradient, 1 - beta1)
        second = (moments.read(state, SECOND, start, stop) * beta2).addcmul_(gradient, gradient, value=1 - beta2)
        moments.write(state, FIRST, first, start, refused)
        moments.write(state, SECOND, second, start, refused)
        root = math.sqrt(1 - beta2**step)
        target = self._targets[parameter]
        eps = group["eps"] / root if target is not None and target.preset == "released" else group["eps"]
        return first.div_(1 - beta1**step).div_(second.sqrt_().div_(root).add_(eps))

    def _write(
        self, parameter: Tensor, direction: Tensor, start: int, step: int, group: Group, refused: Tensor | None
    ) -> None:
        """W <- w - rate (weight_decay w + d) for one piece."""
        weights = local(parameter.detach()).view(-1)[start : start + direction.numel()]
        rate = group["lr"]
        updated = (weights.float() * (1 - rate * group["weight_decay"])).sub_(direction, alpha=rate)
        if weights.dtype == torch.bfloat16 and parameter in self.streams:
            place = local_offset(parameter) + start
            key = rounding.at_step(self.streams[parameter], step)
            updated = rounding.round_stochastically(
                updated, rounding.noise(key, place, updated.numel(), updated.device)
            )
        put(weights, updated.to(weights.dtype), refused)

    def _moments(self, parameter: Tensor) -> Moments:
        target, num = self._targets[parameter], parameter.numel()
        if target is not None:
            num = math.prod(projection.low_shape(tuple(parameter.shape), target.rank))
        return Moments(self.block if num >= self.small else 0)


def _pieces(num: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num, PIECE):
        yield start, min(start + PIECE, num)
