"""How many parameters a model has, stored and non-zero, measured on its tensors."""

from dataclasses import dataclass

from torch import nn

from fallow.methods.base import reparam_layers


@dataclass(frozen=True, slots=True)
class Counts:
    """Parameter counts of a model; shared (tied) parameters count once.

    >>> Counts(positions=100, stored=40, trainable=40, nonzero=30).sparsity
    0.7
    """

    positions: int
    """Parameters of the same model with every weight dense."""

    stored: int
    """Elements that exist in parameters: what takes memory."""

    trainable: int
    """Stored elements that get gradients and optimizer states."""

    nonzero: int
    """Entries of the matrices that are not zero, plus all vectors: a bias that starts at zero is not sparse."""

    apart: int = 0
    """The same with the terms of converted layers kept apart: entries of their bases that are not zero, and all of
    their factors and sparse values."""

    @property
    def sparsity(self) -> float:
        """Share of positions that are zero."""
        return 1.0 - self.nonzero / self.positions


def count(model: nn.Module) -> Counts:
    """Count the parameters of a model, converted or not.

    On the meta device, where there are no values, the non-zero count is the number of entries that can be non-zero.

    >>> count(nn.Linear(4, 2)).positions
    10
    """
    layers = reparam_layers(model)
    inside = {id(p) for layer in layers.values() for n, p in layer.named_parameters() if n != "bias"}
    positions = nonzero = stored = trainable = apart = 0
    for parameter in model.parameters():
        stored += parameter.numel()
        trainable += parameter.numel() if parameter.requires_grad else 0
        if id(parameter) not in inside:
            positions += parameter.numel()
            nonzero += _nonzero(parameter)
            apart += _nonzero(parameter)
    for layer in layers.values():
        positions += layer.in_features * layer.out_features
        on_meta = next(layer.parameters()).is_meta
        nonzero += layer.nnz if on_meta else int(layer.effective_weight().detach().count_nonzero())
        apart += sum(p.numel() for p in (layer.low_rank_a, layer.low_rank_b, layer.values) if p is not None)
        apart += 0 if layer.base is None else _nonzero(layer.base)
    return Counts(positions, stored, trainable, nonzero, apart)


def _nonzero(parameter: nn.Parameter) -> int:
    full = parameter.is_meta or parameter.ndim < 2
    return parameter.numel() if full else int(parameter.detach().count_nonzero())
