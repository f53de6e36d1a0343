"""What a method is: the terms of each target weight, what is trained, what happens around a step; and mixins for more.

`Method` is what every method has. What only some do is a mixin, such as `AttachesModules`, and whoever cares asks
`isinstance`. Nobody asks for a method's name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fallow.config import check
from fallow.linear import ReparamLinear, Site, Terms
from fallow.random import Key

Edit = Callable[[str, Tensor], Tensor]
"""(name, moment) -> the moment that takes its place, of the same shape."""


@dataclass(frozen=True, slots=True)
class ParamOverride:
    """How one parameter learns, where that differs from the optimizer's settings."""

    lr_multiplier: float = 1.0
    """Factor on the learning rate. Weight decay is multiplied with it, as in torch."""

    weight_decay: bool | None = None
    """Whether it decays. None: by the optimizer's rule (matrices and the values of a support do, vectors do not)."""

    lr: float | None = None
    """A peak learning rate of its own; the schedule's factor applies. It makes the parameter auxiliary: no weight of
    the model, without decay, not clipped, not in the gradient norm, and whole on every process (its gradient is
    averaged like all others)."""

    maximize: bool = False
    """Gradient ascent: a Lagrange multiplier."""

    @property
    def is_auxiliary(self) -> bool:
        """Whether it has a learning rate of its own."""
        return self.lr is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Method(ABC):
    """A line of work as settings. Subclasses are frozen dataclasses whose fields are the settings a recipe can give."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the types of the settings. A subclass that checks more calls `Method.__post_init__(self)` first."""
        check(self)

    @abstractmethod
    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """The terms of each target weight; a layer that is left out stays as it is.

        All sites are given at once, because densities by layer depend on all shapes. Random draws come from
        `key.child(site.name)`, so that they are the same on every process and after every restart.
        """

    def trainable(self, names: Iterable[str]) -> set[str]:
        """Which parameters of the converted model are trained, of all their names; by default every one.

        The others get no gradient and no optimizer state. A term that is frozen by itself stays so.
        """
        return set(names)

    def param_overrides(self, model: nn.Module) -> dict[str, ParamOverride]:
        """What is special about how parameters learn, by name; absent means nothing is."""
        return {}

    def lr_factor(self, step: int) -> float:
        """Factor on the schedule's rate, of all parameters, for the update after `step` ones; a pure function."""
        return 1.0

    def before_step(self, model: nn.Module, step: int) -> None:  # noqa: B027 - most methods have nothing to do here
        """Called before update number `step` (from 1), once all gradients are there and agreed on.

        It may add to the gradients of auxiliary parameters. All processes call it, and raise or none does.
        """

    def after_step(  # noqa: B027 - most methods have nothing to do here
        self, model: nn.Module, step: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Called after update number `step` (from 1), with gradients still there.

        What it does must follow from its arguments alone: a run that was broken off and continued passes here once for
        each update. Parameters may be sharded over processes (DTensor), and all processes call it.

        Args:
            model: converted.
            step: updates made, from 1.
            optimizer: `edit_optimizer_state` and `optimizer.state.pop(parameter)` change what it remembers.
        """


class AttachesModules(ABC):
    """Puts modules beside the layers: gates, a prefix."""

    __slots__ = ()

    @property
    def mergeable(self) -> bool:
        """Whether `detach` leaves a stock model with the same outputs; otherwise a stage ends unmerged."""
        return True

    @abstractmethod
    def attach(self, model: nn.Module, key: Key) -> str:
        """Put them on, last in a conversion; says what, in a few words. On meta it makes meta parameters.

        What has parameters becomes a module of the model, so that they are saved with it.
        """

    @abstractmethod
    def detach(self, model: nn.Module) -> nn.Module:
        """Take them off, last in a merge. Returns the stock model: this one, or a new and perhaps smaller one."""


class Monitored:
    """Has something to tell while it trains."""

    __slots__ = ()

    def summary(self, model: nn.Module) -> dict[str, Any]:
        """JSON values for method.jsonl, logged every few steps and at the end; `verdict` is shown to the user."""
        return {}

    def should_stop(self, model: nn.Module, step: int) -> bool:
        """Whether the stage may end before its budget; asked after each update, the same answer on all processes."""
        return False


class ChangesShape(ABC):
    """Merging gives a model of another configuration."""

    __slots__ = ()

    @abstractmethod
    def output_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of the merged model, as plain values, from that of the model it was.

        Raises:
            UserError: the method cannot work on such a model.
        """


class TransfersOptimizerState:
    """A later stage can continue with this stage's optimizer state."""

    __slots__ = ()

    def map_optimizer_state(
        self, model: nn.Module, moments: dict[str, Tensor], power: Literal[1, 2]
    ) -> dict[str, Tensor]:
        """What the optimizer remembers of the weights, as the merged model's parameters have it.

        Args:
            model: converted, whole.
            moments: by name of the parameter, whole.
            power: 1 for means of gradients, 2 for means of their squares.
        """
        return dict(moments)


class SelectsSupports:
    """Supports follow from weights or gradients, not from the seed: they are saved wherever values are."""

    __slots__ = ()

    @property
    def needs_gradients(self) -> bool:
        """Whether they are chosen by gradients on the data, so that these have to be taken before converting."""
        return False


class KeepsUpdate:
    """After training the update stays apart from the weight, for a stage that prunes by it or tunes it on."""

    __slots__ = ()


class WritesExtraFiles(ABC):
    """Leaves files beside the merged model."""

    __slots__ = ()

    @abstractmethod
    def write_extra_files(self, model: nn.Module, folder: Path) -> None:
        """Write into the folder of the merged model what it no longer shows; called before merging."""


def reparam_layers(model: nn.Module) -> dict[str, ReparamLinear]:
    """The converted layers of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ReparamLinear)}


def auxiliary_names(method: Method, model: nn.Module) -> set[str]:
    """Names of the parameters that are no weights: those with a learning rate of their own."""
    return {name for name, override in method.param_overrides(model).items() if override.is_auxiliary}


def edit_optimizer_state(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, edit: Edit) -> None:
    """Replace each moment of a parameter by a function of it, whatever form the optimizer stores it in.

    To begin anew, with the count of updates, write `optimizer.state.pop(parameter, None)` instead.

    Args:
        optimizer: any of fallow's, or one of torch's that keeps its moments as tensors of the parameter's shape.
        parameter: nothing happens before its first update.
        edit: is called for each moment with its name ("exp_avg", "exp_avg_sq") and value, of the parameter's shape,
            a DTensor where the parameter is one; in fp32 where the optimizer stores bytes.

    >>> weight = nn.Parameter(torch.ones(2))
    >>> adam = torch.optim.AdamW([weight])
    >>> weight.sum().backward(); adam.step()
    >>> edit_optimizer_state(adam, weight, lambda name, moment: torch.zeros_like(moment))
    >>> adam.state[weight]["exp_avg"].tolist()
    [0.0, 0.0]
    """
    own = getattr(optimizer, "edit_state", None)
    if own is not None:
        own(parameter, edit)
        return
    for name, moment in optimizer.state.get(parameter, {}).items():
        if isinstance(moment, Tensor) and moment.shape == parameter.shape and parameter.ndim:
            moment.copy_(edit(name, moment))
