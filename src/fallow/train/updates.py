"""When weights change: together after the backward pass, or one parameter at a time inside it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn

from fallow.errors import UserError
from fallow.train import gradients
from fallow.train.distributed import Mesh
from fallow.train.optimizers.build import set_rate
from fallow.train.optimizers.parameters import local, trainable
from fallow.train.optimizers.settings import Optimizer


class Updates(Protocol):
    """What the loop asks in one step, in this order; `backward` passes lie between `see` and `norm`."""

    def begin(self, rate: float) -> None:
        """Before the first micro-batch: the rate of this step."""
        ...

    def see(self, loss: torch.Tensor, *, last: bool) -> None:
        """Before the backward pass of each micro-batch: its loss, and whether it is the step's last."""
        ...

    def norm(self) -> torch.Tensor:
        """The norm of this process's part of all gradients, before clipping; a scalar."""
        ...

    def finish(self, total_norm: float) -> None:
        """Clip and update, as far as that is not done."""
        ...

    def num_changed(self) -> int:
        """How many parameters have been updated in this step already, on this process."""
        ...

    def close(self) -> None:
        """After the last step: let go of the model."""
        ...


class Together:
    """One update after the whole backward pass.

    Args:
        parameters: all that are updated, by name.
        optimizer: of these parameters.
        settings: clipping.
        mesh: the processes.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, settings: Optimizer, mesh: Mesh
    ) -> None:
        self.parameters, self.optimizer, self.mesh = list(parameters.values()), optimizer, mesh
        self.clip, self.clip_by = settings.clip, settings.clip_by
        self.gradients: list[torch.Tensor] = []

    def begin(self, rate: float) -> None:
        """Set the rate."""
        set_rate(self.optimizer, rate)

    def see(self, loss: torch.Tensor, *, last: bool) -> None:
        """Nothing: the step is judged by its loss and norm once both are known."""

    def norm(self) -> torch.Tensor:
        """The norm of what is there now."""
        self.gradients = gradients.local_gradients(self.parameters)
        return gradients.norm(self.gradients)

    def finish(self, total_norm: float) -> None:
        """Clip, then update all."""
        if self.clip_by == "all":
            gradients.clip_(self.gradients, total_norm, self.clip)
        else:
            for gradient in self.gradients:
                own = torch.linalg.vector_norm(gradient.float())
                gradients.clip_tensor_(gradient, own, self.clip, self.mesh.world)
        self.gradients = []
        self.optimizer.step()

    def num_changed(self) -> int:
        """None before `finish`."""
        return 0

    def close(self) -> None:
        """Nothing holds on to the model."""


class PerLayer:
    """Each parameter is updated inside the backward pass, as soon as its gradient is complete, which is then freed.

    There is one optimizer with one rate. In the last micro-batch of a step, a hook on each parameter updates it alone,
    so that the numbers are those of `Together`, bit for bit. Until then gradients are added up as ever, and are all
    there: only a step of one micro-batch needs less memory.

    A loss that is not finite, on any process, refuses all updates of the step before the first one. A gradient that is
    not finite refuses its parameter's update and all that follow on this process; those before it have been made, and
    the loop stops. Neither waits for the device.

    Under FSDP2 hooks see a reduced shard, and everything holds. DDP would call them before it adds gradients up.

    Args:
        parameters: all that are updated, by name. They have hooks from the first `begin` to `close`.
        optimizer: of these parameters; an `Adam` of ours or a fused one of torch, which know `found_inf`.
        settings: clipping, by tensor or none.
        mesh: the processes.
        beside: parameters of the optimizer without hooks, updated last; their gradients are not complete in the
            backward pass.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        settings: Optimizer,
        mesh: Mesh,
        beside: Sequence[nn.Parameter] = (),
    ) -> None:
        self.beside = tuple(beside)
        self.parameters, self.optimizer, self.mesh = list(parameters.values()), optimizer, mesh
        self.clip = settings.clip
        self.groups: dict[torch.Tensor, Any] = {p: group for group in optimizer.param_groups for p in group["params"]}
        self.norms: dict[torch.Tensor, torch.Tensor] = {}
        self.changed: list[torch.Tensor] = []
        self.refused = torch.zeros((), device=mesh.device)
        self.armed = False
        self.handles: list[Any] = []

    def begin(self, rate: float) -> None:
        """Set the rate, and forget the step before."""
        if not self.handles:
            self.handles = [p.register_post_accumulate_grad_hook(self._hook) for p in self.parameters]
        set_rate(self.optimizer, rate)
        self.norms, self.changed, self.armed = {}, [], False
        self.refused.zero_()

    def see(self, loss: torch.Tensor, *, last: bool) -> None:
        """A loss that is not finite refuses the step; the last one arms the hooks."""
        self.refused.logical_or_(~torch.isfinite(loss.detach()))
        if last and self.mesh.world > 1:
            dist.all_reduce(self.refused, op=dist.ReduceOp.MAX)
        self.armed = last

    def norm(self) -> torch.Tensor:
        """Of all gradients, those of parameters that the last micro-batch did not touch included."""
        self.armed = True
        for parameter in self.parameters:
            if parameter.grad is not None:
                self._hook(parameter)
        self.armed = False
        return gradients.norm_of_norms([self.norms[p] for p in self.parameters if p in self.norms])

    def finish(self, total_norm: float) -> None:
        """Only what is beside the weights is left."""
        for parameter in self.beside:
            self._step_alone(parameter)
            parameter.grad = None

    def num_changed(self) -> int:
        """Parameters that were updated before something was refused."""
        return round(float(torch.stack(self.changed).sum())) if self.changed else 0

    def close(self) -> None:
        """Take the hooks off, which hold the optimizer."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    @torch.no_grad()
    def _hook(self, parameter: torch.Tensor) -> None:
        if not self.armed or parameter.grad is None:
            return
        gradient = local(parameter.grad)
        length = self.norms[parameter] = torch.linalg.vector_norm(gradient.float())
        if self.clip:
            length = gradients.clip_tensor_(gradient, length, self.clip, self.mesh.world)
        self.refused.logical_or_(~torch.isfinite(length))
        self.changed.append(1 - self.refused)
        self._step_alone(parameter)
        parameter.grad = None

    def _step_alone(self, parameter: torch.Tensor) -> None:
        """An ordinary step of the one optimizer that sees one parameter."""
        every = self.optimizer.param_groups
        self.optimizer.found_inf = self.refused  # type: ignore[attr-defined]
        self.optimizer.param_groups = [{**self.groups[parameter], "params": [parameter]}]
        try:
            self.optimizer.step()
        finally:
            self.optimizer.param_groups = every
            self.optimizer.found_inf = None  # type: ignore[attr-defined]


def updates_of(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Optimizer,
    mesh: Mesh,
    beside: Sequence[nn.Parameter] = (),
) -> Updates:
    """What the settings ask for.

    Args:
        model: sharded.
        optimizer: of its parameters.
        settings: when to update, and clipping.
        mesh: the processes.
        beside: parameters that are no weights: not clipped, not in the norm, updated after all others.

    Raises:
        UserError: updates per layer of a model inside DDP, whose gradients are not those of all processes yet.
    """
    outside = {id(parameter) for parameter in beside}
    parameters = {name: p for name, p in trainable(model).items() if id(p) not in outside}
    if settings.update == "together":
        return Together(parameters, optimizer, settings, mesh)
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise UserError(
            "optimizer.update is per_layer, which would use each process's own gradients: DistributedDataParallel adds "
            "them up later. Give the loop the bare model (it shards it by FSDP2), or write optimizer.update: together"
        )
    return PerLayer(parameters, optimizer, settings, mesh, beside)
