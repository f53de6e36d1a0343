"""What pruning left, matrix by matrix and as a whole, each number with what it counts."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from fallow.counting import count
from fallow.pruning.matrices import in_blocks, matrices

CONVENTIONS = {
    "sparsity": "share of the entries of the blocks' linear layers, as they were before, that are zero or cut out; "
    "updates are kept apart and not counted",
    "nonzero": "entries of all matrices that are not zero and all vectors, with the update kept apart: entries of "
    "frozen weights, of factors and of S",
    "trainable": "numbers that get a gradient",
    "linear_flops_left": "share of the multiplications of the blocks' linear layers with a token that are left: "
    "non-zero entries of weights, plus factors and entries of updates",
}
"""What the numbers of a report count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What is left of a model; `of` compares it with the sizes before."""

    by_matrix: dict[str, float]
    """Share of zeros in each matrix of the blocks that is left, the rows of fused ones apart."""

    sparsity: float
    nonzero: int
    trainable: int
    linear_flops_left: float
    heads: dict[str, list[int]]
    """Heads (groups of them under grouped queries) that stay in each layer, where some were cut out."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, with what they count."""
        return {**asdict(self), "conventions": CONVENTIONS}

    def __str__(self) -> str:
        cut = f", {sum(map(len, self.heads.values()))} heads left" if self.heads else ""
        return (
            f"{self.sparsity:.1%} of the blocks' weights are gone{cut}; {self.nonzero:,} non-zero parameters with the "
            f"update apart; {self.linear_flops_left:.1%} of the linear layers' multiplications are left"
        )


def sizes(model: nn.Module) -> int:
    """Entries of the blocks' linear layers, zero or not."""
    return sum(matrix.size for matrix in matrices(model) if in_blocks(matrix.name))


def report_of(model: nn.Module, before: int, heads: dict[str, list[int]]) -> Pruned:
    """Look at a pruned model.

    Args:
        model: pruned.
        before: `sizes` of the model before.
        heads: what stays of the attention, where heads were cut out.
    """
    by_matrix, nonzero = {}, 0
    for matrix in matrices(model):
        if in_blocks(matrix.name):
            found = int(matrix.weight().count_nonzero())
            by_matrix[matrix.label] = 1 - found / matrix.size
            nonzero += found
    counts = count(model)
    return Pruned(
        by_matrix=by_matrix,
        sparsity=1 - nonzero / before,
        nonzero=counts.apart,
        trainable=counts.trainable,
        linear_flops_left=(nonzero + _update_numbers(model)) / before,
        heads=heads,
    )


def _update_numbers(model: nn.Module) -> int:
    """Entries of all factors and of all S."""
    from fallow.methods.base import reparam_layers

    terms = [(la.low_rank_a, la.low_rank_b, la.values) for la in reparam_layers(model).values()]
    return sum(term.numel() for group in terms for term in group if term is not None)
