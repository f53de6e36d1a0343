"""Which parameters share a rate, a decay and a projection."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from fallow.conversion import match_targets
from fallow.errors import UserError
from fallow.linear.inputs import linear_sites
from fallow.methods.base import ParamOverride, reparam_layers
from fallow.train.optimizers.parameters import canonical, trainable
from fallow.train.optimizers.settings import GaLore, Optimizer

Group = dict[str, Any]
"""A group of parameters as torch's optimizers take it."""


class Rates(Protocol):
    """What the optimizer asks a method."""

    def param_overrides(self, model: nn.Module) -> Mapping[str, ParamOverride]:
        """What is special about how parameters learn, by name."""
        ...


def groups_of(model: nn.Module, method: Rates, settings: Optimizer) -> list[Group]:
    """One group for each combination of rate multiplier, decay, and projected or not.

    Matrices decay, and the values of supports, vectors do not, unless the method says otherwise. Auxiliary parameters
    do not decay and may ascend.

    Each holds its multiplier under `scale`; `set_rate` keeps its rate at scale * schedule. Weight decay is decoupled
    and uses that multiplied rate, as in torch: a parameter that learns n times faster also decays n times faster, and
    its balance between the two stays where it was.

    Args:
        model: already sharded, on its device.
        method: says what is special about a parameter.
        settings: the rest.

    Raises:
        UserError: nothing to project, a rank that a matrix does not have, or a rate for embeddings that are frozen.
    """
    overrides = {canonical(name): override for name, override in method.param_overrides(model).items()}
    decayed = matrix_names(model)
    projected = set() if settings.projection is None else projected_names(model, settings.projection)
    embeddings = embedding_names(model) if settings.embedding_scale != 1 else set()
    members: dict[tuple[float, float, bool], list[nn.Parameter]] = defaultdict(list)
    auxiliary: dict[ParamOverride, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in trainable(model).items():
        override = overrides.get(name, ParamOverride())
        if override.is_auxiliary:
            auxiliary[override].append(parameter)
            continue
        by_rule = name in decayed if override.weight_decay is None else override.weight_decay
        decay = settings.weight_decay if settings.decay == "all" or by_rule else 0.0
        scale = override.lr_multiplier * (settings.embedding_scale if name in embeddings else 1.0)
        members[scale, decay, name in projected].append(parameter)
    weights = [
        {"params": parameters, "scale": scale, "lr": scale * settings.lr, "weight_decay": weight_decay}
        | ({"projection": settings.projection} if is_projected else {})
        for (scale, weight_decay, is_projected), parameters in sorted(members.items(), key=lambda item: item[0])
    ]
    return weights + [
        {"params": parameters, "scale": override.lr / settings.lr, "lr": override.lr, "weight_decay": 0.0}
        | ({"maximize": True} if override.maximize else {})
        for override, parameters in auxiliary.items()
        if override.lr is not None
    ]


def matrix_names(model: nn.Module) -> set[str]:
    """Names of the parameters that are matrices or parts of one, which is what weight decay is for.

    The 1-D values of a sparse term are part of a matrix and belong here; biases and norms do not.
    """
    values = {f"{name}.values" for name, layer in reparam_layers(model).items() if layer.values is not None}
    found = values | {name for name, parameter in model.named_parameters() if parameter.ndim >= 2}
    return {canonical(name) for name in found}


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
