"""What a method is: a choice of terms for each target weight, and what it asks of the optimizer and the loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from fallow.config import check
from fallow.linear import ReparamLinear, Site, Terms
from fallow.random import Key


@dataclass(frozen=True, slots=True)
class OwnRate:
    """How a parameter beside the weights learns."""

    lr: float
    """Peak learning rate; the schedule's factor applies."""

    ascends: bool = False
    """Whether it makes the loss larger: a Lagrange multiplier."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Method(ABC):
    """A line of work as settings. Subclasses are frozen dataclasses whose fields are the settings a recipe can give."""

    name: ClassVar[str]
    carries: ClassVar[bool] = False
    """Whether `carried` gives what the optimizer remembers to a stage that goes on."""

    chooses: ClassVar[bool] = False
    """Whether supports are chosen by looking at the weights, so that they have to be kept."""

    def __post_init__(self) -> None:
        """Check the types of the settings; a subclass that checks more calls this first."""
        check(self)

    goes_on: ClassVar[bool] = False
    """Whether its update is kept apart from the weight after training, for a stage that prunes by it or tunes it on."""

    @property
    def merges(self) -> bool:
        """Whether merging gives a stock model with the same outputs; otherwise a stage ends unmerged."""
        return True

    @property
    def needs_gradients(self) -> bool:
        """Whether supports are chosen by gradients on the data, so that these have to be taken before converting."""
        return False

    @abstractmethod
    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """The terms of each target weight; a site that is left out keeps its stock layer.

        All sites are given at once, because densities by layer depend on all shapes. Random draws come from
        `key.child(site.name)`, so that they are the same on every process and after every restart.
        """

    def trained(self, names: Iterable[str]) -> set[str]:
        """Which parameters of the converted model are trained, of all their names; by default every one.

        The others get no gradient and no optimizer state. A term that is frozen by itself stays so.
        """
        return set(names)

    def attach(self, model: nn.Module, key: Key) -> str:
        """Put beside the layers what is not a term of any weight, such as gates; says what, or nothing.

        Called last in a conversion. What has parameters becomes a module of the model, so that they are saved with it.
        """
        return ""

    def detach(self, model: nn.Module) -> None:  # noqa: B027 - most methods attach nothing
        """Undo `attach`, last in merging; the model is a stock one of plain layers then, perhaps a smaller one."""

    def own_rates(self, model: nn.Module) -> dict[str, OwnRate]:
        """Rates of parameters beside the weights, by name: gates, multipliers.

        They do not decay, are neither clipped nor part of the norm of the gradients, and every process holds them whole
        (their gradients are averaged like all others).
        """
        return {}

    def rate_scales(self, model: nn.Module) -> dict[str, float]:
        """Factors on the learning rate by parameter name; absent means 1."""
        return {}

    def decayed(self, model: nn.Module) -> set[str]:
        """Names of the parameters that are matrices or parts of one, which is what weight decay is for.

        The 1-D values of a sparse term are part of a matrix and belong here; biases and norms do not.
        """
        values = {f"{name}.values" for name, layer in reparam_layers(model).items() if layer.values is not None}
        return values | {name for name, parameter in model.named_parameters() if parameter.ndim >= 2}

    def rate_factor(self, step: int) -> float:
        """Factor on the schedule's rate, of all parameters, for the update after `step` ones; a pure function."""
        return 1.0

    def before_step(self, model: nn.Module, step: int) -> None:  # noqa: B027 - most methods have nothing to do here
        """Called before each optimizer update, once all gradients are there and agreed on; `step` counts from 1.

        It may add to the gradients of the parameters in `own_rates`. All processes call it, and raise or none does.
        """

    def after_step(  # noqa: B027 - most methods have nothing to do here
        self, model: nn.Module, step: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Called after each optimizer update, with the number of updates made.

        What it does must follow from its arguments alone: a run that was broken off and continued passes here once for
        each update. Parameters may be sharded over processes (DTensor), and all processes call it.

        Args:
            model: converted.
            step: updates made, from 1.
            optimizer: `optimizer.state[parameter]` may be changed or removed, as new parameter values demand.
        """

    def is_done(self, model: nn.Module, step: int) -> bool:
        """Whether the stage may end before its budget does; asked after each update, the same answer on all processes.

        Args:
            model: converted, in training.
            step: updates made, from 1.
        """
        return False

    def carried(self, model: nn.Module, moments: dict[str, torch.Tensor], power: int) -> dict[str, torch.Tensor]:
        """What an optimizer remembers of the weights, as the merged model's weights have it; by default nothing.

        Args:
            model: converted, whole.
            moments: by name of the parameter, whole: means of gradients, or of their squares.
            power: 1 for means, 2 for means of squares.
        """
        return {}

    def leaves(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of the merged model, as plain values, from that of the model it was; by default the same.

        Raises:
            UserError: the method cannot work on such a model.
        """
        return dict(config)

    def summary(self, model: nn.Module) -> dict[str, Any]:
        """What there is to tell of a model in training, as JSON values; logged every few steps and at the end."""
        return {}

    def write(self, model: nn.Module, folder: Path) -> None:  # noqa: B027 - most methods leave nothing behind
        """Write into the folder of the merged model what it no longer shows; called before merging."""


def reparam_layers(model: nn.Module) -> dict[str, ReparamLinear]:
    """The converted layers of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ReparamLinear)}
