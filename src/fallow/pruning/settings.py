"""What is cut off a model, and by what."""

from dataclasses import dataclass
from typing import Literal

from fallow.config import check
from fallow.errors import UserError

_SAME = -1.0

Score = Literal["update", "sum", "weight", "random"]
"""What says how much an entry is worth: |dW|, |W + dW|, |W|, or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Single weights of the blocks' linear layers are set to zero for good (DSEE's unstructured pruning).

    The matrices form two groups. Those that were tuned with an update are pruned by `score`; the others, and the rows
    of a fused matrix that have no update, by |W|. Of a group the `ratio` smallest entries go, those of lowest position
    where several are equal.

    >>> Weights(ratio=0.2).share_of_updates
    0.2
    """

    kind: Literal["weights"] = "weights"
    """Single weights."""

    ratio: float
    """Share that is removed: 0.2 to 0.5 in the paper."""

    update_ratio: float = _SAME
    """Share that is removed of the matrices with an update. -1: the same."""

    score: Score = "update"
    """What the matrices with an update are pruned by: update |dW| (the paper), sum |W + dW|, weight |W|, random (then
    all matrices are)."""

    scope: Literal["group", "matrix"] = "group"
    """Where the smallest are looked for: in all matrices of a group together, so that single matrices end with
    different sparsities (as released), or in each matrix."""

    keys: Literal["pruned", "kept"] = "pruned"
    """Whether the projections of keys are pruned, by |W| (the paper's BERT code), or left alone (the authors' GPT-2
    code)."""

    also: tuple[str, ...] = ()
    """Further layers that join the second group, by the ends of their names: pooler.dense in the released BERT code."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)
        check_ratio("ratio", self.ratio)
        if self.update_ratio != _SAME:
            check_ratio("update_ratio", self.update_ratio)
        if not self.ratio and not self.share_of_updates:
            raise UserError("ratio is 0, which prunes nothing. Leave prune out")

    @property
    def share_of_updates(self) -> float:
        """What is removed of the matrices with an update."""
        return self.ratio if self.update_ratio == _SAME else self.update_ratio


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """Whole heads of attention are cut out (DSEE's structured pruning).

    The score of a head is the sum over its rows of the query, key and value projections (and over its columns of the
    output) of |dW|, for those that have an update. Their rows and columns leave the matrices, so the model is smaller
    and faster. With grouped queries a head of keys goes with all its heads of queries.
    """

    kind: Literal["heads"] = "heads"
    """Whole heads."""

    num: int = 0
    """Heads removed in every layer: 3, 6 or 9 of 12 in the paper."""

    ratio: float = 0.0
    """Share of all heads that is removed, the lowest scores wherever they are; in each layer one head stays."""

    score: Score = "update"
    """What heads are compared by: update |dW| (the paper), sum |W + dW|, weight |W|, random."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)
        check_ratio("ratio", self.ratio)
        if self.num < 0:
            raise UserError(f"num is {self.num}, but it must be at least 1")
        if bool(self.num) == bool(self.ratio):
            given = "given together" if self.num else "both missing"
            raise UserError(
                f"num (heads in every layer) and ratio (share of all heads) are {given}. Write one of them, such as "
                "num: 3"
            )


Pruning = Weights | Heads
"""What can be pruned; `kind` says which."""


def check_ratio(name: str, value: float) -> None:
    """Refuse a share outside [0, 1).

    Raises:
        UserError: with what was probably meant.
    """
    if not 0.0 <= value < 1.0:
        hint = f". Did you mean {value / 100:g}?" if 1.0 < value < 100.0 else ""
        raise UserError(f"{name} is {value:g}, but it must be at least 0 and below 1{hint}")
