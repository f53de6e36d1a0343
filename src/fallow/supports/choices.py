"""Supports that are chosen by looking at a weight, instead of being drawn."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fallow.errors import UserError, unknown
from fallow.random import Key, sample_without_replacement
from fallow.supports.decomposition import decompose, released_positions

Choice = Literal["decomposition", "released", "magnitude", "random", "gradient"]


def choose(
    choice: Choice, weight: Tensor, *, entries: int, rank: int, key: Key, fisher: Tensor | None = None
) -> Tensor:
    """Positions of `entries` entries of a matrix, chosen by one of several rules; row-major, ascending, int64.

    - `decomposition`: what low rank leaves over, `fallow.supports.decomposition.decompose`.
    - `released`: what the released code of DSEE chooses, `released_positions`.
    - `magnitude`: the largest |W|.
    - `random`: uniform, without replacement.
    - `gradient`: the largest mean squared gradient (the diagonal of the Fisher information), as in RoSA.

    Equal sizes go to the entry that comes first.

    Args:
        choice: the rule.
        weight: (d_out, d_in), pretrained.
        entries: how many.
        rank: of the low-rank part, for the first rule.
        key: of the random numbers.
        fisher: (d_out, d_in) mean squared gradients, for the last rule.

    Raises:
        UserError: more entries than there are, no such rule, or no gradients for `gradient`.

    >>> choose("magnitude", torch.tensor([[1.0, -3.0], [2.0, 0.0]]), entries=2, rank=1, key=Key(0)).tolist()
    [1, 2]
    """
    if entries > weight.numel():
        raise UserError(
            f"entries is {entries:,}, but a matrix of {weight.shape[0]} x {weight.shape[1]} has only {weight.numel():,}"
        )
    rules: dict[str, Callable[[], Tensor]] = {
        "decomposition": lambda: decompose(weight, rank=rank, entries=entries, key=key).positions_c,
        "released": lambda: released_positions(weight, entries=entries, key=key),
        "magnitude": lambda: largest(weight.detach().abs(), entries),
        "random": lambda: torch.from_numpy(sample_without_replacement(key, weight.numel(), entries)),
        "gradient": lambda: largest(_given(fisher), entries),
    }
    if choice not in rules:
        raise unknown("support", choice, rules)
    return rules[choice]().cpu()


def largest(scores: Tensor, num: int) -> Tensor:
    """Positions of the `num` largest entries, ascending; of equal ones those that come first."""
    order = scores.reshape(-1).argsort(descending=True, stable=True)
    return order[:num].sort().values


def _given(fisher: Tensor | None) -> Tensor:
    if fisher is None:
        raise UserError(
            "support gradient needs the mean squared gradients of the pretrained model. In Python give "
            "convert(..., fisher=squared_gradients(model, ...)); a recipe takes them from the stage's data"
        )
    return fisher
