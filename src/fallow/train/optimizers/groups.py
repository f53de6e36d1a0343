"""Which parameters share a rate, a decay and a projection."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from fallow.conversion import match_targets
from fallow.errors import UserError
from fallow.linear.inputs import linear_sites
from fallow.methods.base import OwnRate
from fallow.train.optimizers.parameters import canonical, trainable
from fallow.train.optimizers.settings import GaLore, Optimizer

Group = dict[str, Any]
"""A group of parameters as torch's optimizers take it."""


class Rates(Protocol):
    """What the optimizer asks a method."""

    def rate_scales(self, model: nn.Module) -> dict[str, float]:
        """Multiplier of the learning rate by parameter name; 1 for a name that is absent."""
        ...

    def own_rates(self, model: nn.Module) -> Mapping[str, OwnRate]:
        """Peak rates of parameters beside the weights, by name."""
        ...

    def decayed(self, model: nn.Module) -> set[str]:
        """Names of the parameters that are matrices or parts of one."""
        ...


def groups_of(model: nn.Module, method: Rates, settings: Optimizer) -> list[Group]:
    """One group for each combination of rate multiplier, decay, and projected or not.

    Parameters with a rate of their own do not decay and may ascend.

    Each holds its multiplier under `scale`; `set_rate` keeps its rate at scale * schedule. Weight decay is decoupled
    and uses that multiplied rate, as in torch: a parameter that learns n times faster also decays n times faster, and
    its balance between the two stays where it was.

    Args:
        model: already sharded, on its device.
        method: gives the multipliers and says what is a matrix.
        settings: the rest.

    Raises:
        UserError: nothing to project, a rank that a matrix does not have, or a rate for embeddings that are frozen.
    """
    scales = {canonical(name): scale for name, scale in method.rate_scales(model).items()}
    decayed = {canonical(name) for name in method.decayed(model)}
    projected = set() if settings.projection is None else projected_names(model, settings.projection)
    if settings.embedding_scale != 1:
        for name in embedding_names(model):
            scales[name] = settings.embedding_scale * scales.get(name, 1.0)
    own = {canonical(name): rate for name, rate in method.own_rates(model).items()}
    members: dict[tuple[float, float, bool], list[nn.Parameter]] = defaultdict(list)
    beside: dict[OwnRate, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in trainable(model).items():
        if name in own:
            beside[own[name]].append(parameter)
            continue
        decays = settings.decay == "all" or name in decayed
        decay = settings.weight_decay if decays else 0.0
        members[scales.get(name, 1.0), decay, name in projected].append(parameter)
    weights = [
        {"params": parameters, "scale": scale, "lr": scale * settings.lr, "weight_decay": weight_decay}
        | ({"projection": settings.projection} if is_projected else {})
        for (scale, weight_decay, is_projected), parameters in sorted(members.items(), key=lambda item: item[0])
    ]
    return weights + [
        {"params": parameters, "scale": rate.lr / settings.lr, "lr": rate.lr, "weight_decay": 0.0}
        | ({"maximize": True} if rate.ascends else {})
        for rate, parameters in beside.items()
    ]


def embedding_names(model: nn.Module) -> set[str]:
    """Trained tables of embeddings, of words or positions, and the head over the vocabulary.

    Raises:
        UserError: none is trained.
    """
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    head = getattr(model, "get_output_embeddings", lambda: None)()
    members = {id(parameter) for table in [*tables, head] if table is not None for parameter in table.parameters()}
    names = {name for name, parameter in trainable(model).items() if id(parameter) in members}
    if not names:
        raise UserError(
            "optimizer.embedding_scale has no effect: no embedding is trained. Remove it, or train the embeddings"
        )
    return names


def projected_names(model: nn.Module, projection: GaLore) -> set[str]:
    """The matrices whose gradients are projected: stock weights of linear layers, by default those of the blocks.

    Raises:
        UserError: there is none, a target that matches nothing, or a matrix with fewer rows or columns than `rank`.
    """
    try:
        sites = match_targets(model, linear_sites(model), projection.targets)
    except UserError as error:
        raise UserError(
            f"optimizer.{projection.name} projects gradients of dense matrices, and found none: {error}. Sparse and "
            "low-rank layers have none; write optimizer.name: adamw8bit to save memory there"
        ) from None
    parameters = trainable(model)
    names = {canonical(f"{name}.weight") for name in sites} & parameters.keys()
    if not names:
        raise UserError(f"optimizer.{projection.name} has no effect: every matrix that it would project is frozen")
    projection.check_shapes({name: tuple(parameters[name].shape) for name in names})
    return names
