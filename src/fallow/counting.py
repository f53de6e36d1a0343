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
    positions = nonzero = stored = trainable = 0
    for parameter in model.parameters():
        stored += parameter.numel()
        trainable += parameter.numel() if parameter.requires_grad else 0
        if id(parameter) not in inside:
            positions += parameter.numel()
            full = parameter.is_meta or parameter.ndim < 2
            nonzero += parameter.numel() if full else int(parameter.detach().count_nonzero())
    for layer in layers.values():
        positions += layer.in_features * layer.out_features
        on_meta = next(layer.parameters()).is_meta
        nonzero += layer.nnz if on_meta else int(layer.effective_weight().detach().count_nonzero())
    return Counts(positions, stored, trainable, nonzero)
