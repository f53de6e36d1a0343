"""Unstructured pruning: the smallest entries of groups of matrices become zero in the frozen weight."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from fallow.errors import UserError, nearest
from fallow.linear import ReparamLinear
from fallow.pruning.matrices import Matrix, in_blocks, matrices
from fallow.pruning.settings import Score, Weights
from fallow.pruning.threshold import kth_smallest
from fallow.random import Key


def prune_weights(model: nn.Module, settings: Weights, key: Key) -> None:
    """Set the entries that count least to zero, in place.

    Args:
        model: stock or converted; converted layers must have a base that is frozen.
        settings: how many, and by what.
        key: of the draws of `random`.

    Raises:
        UserError: no update to go by, or names in `also` that match nothing.
    """
    with_update, others = groups(model, settings)
    if settings.score in ("update", "sum") and not with_update:
        raise UserError(
            f"prune.score is {settings.score}, but the model has no update to go by. Begin with a stage that was "
            "tuned by method dsee or lora, or write score: weight"
        )
    other: Score = "random" if settings.score == "random" else "weight"
    _prune_group(with_update, settings.share_of_updates, settings.score, settings.scope, key)
    _prune_group(others, settings.ratio, other, settings.scope, key)


def groups(model: nn.Module, settings: Weights) -> tuple[list[Matrix], list[Matrix]]:
    """The matrices with an update, and the others that are pruned.

    Raises:
        UserError: a name in `also` that matches nothing, a layer without a frozen base, or keys that cannot be kept.
    """
    found = list(matrices(model))
    for ending in settings.also:
        if not any(_ends(matrix.name, ending) for matrix in found):
            close = nearest(ending, {matrix.name.rpartition(".")[2] for matrix in found} | {m.name for m in found})
            raise UserError(
                f'also holds "{ending}", which matches no layer.' + (f" Did you mean {close}?" if close else "")
            )
    chosen = [m for m in found if in_blocks(m.name) or any(_ends(m.name, ending) for ending in settings.also)]
    for matrix in chosen:
        base = matrix.module.base if isinstance(matrix.module, ReparamLinear) else None
        if isinstance(matrix.module, ReparamLinear) and (base is None or base.requires_grad):
            raise UserError(
                f"{matrix.name} cannot be pruned: its weight has no frozen base, so pruned entries would not stay "
                "away. Prune models tuned by method dsee or lora, or stock models"
            )
    if settings.keys == "kept" and not any(matrix.role == "k" for matrix in chosen):
        raise UserError(
            f"keys is kept, but no matrix of {type(model).__name__} holds keys alone: in query_key_value they stand "
            "between queries and values, head by head. Remove keys"
        )
    others = [m for m in chosen if not m.has_update and (settings.keys == "pruned" or m.role != "k")]
    return [m for m in chosen if m.has_update], others


def score_of(matrix: Matrix, score: Score, key: Key) -> Tensor:
    """What every entry of a matrix is worth, (rows, d_in), at least 0.

    `update` |dW|, `sum` |W + dW|, `weight` |W|, `random` uniform draws by layer and rows. dW is as the layer adds it:
    alpha / rank times U V + S.
    """
    if score == "update":
        return matrix.update().abs()
    if score == "sum":
        return (matrix.weight() + matrix.update()).abs()
    if score == "weight":
        return matrix.weight().abs()
    draws = torch.from_numpy(key.child(matrix.label).uniform(matrix.size))
    return draws.float().view(-1, matrix.site.shape[1])


def _prune_group(group: Sequence[Matrix], ratio: float, score: Score, scope: str, key: Key) -> None:
    pools: list[Sequence[Matrix]] = [group] if scope == "group" else [[matrix] for matrix in group]
    for pool in pools:
        num = round(ratio * sum(matrix.size for matrix in pool))
        if num:
            _remove_smallest(pool, num, score, key)


def _remove_smallest(pool: Sequence[Matrix], num: int, score: Score, key: Key) -> None:
    def scores() -> Iterable[Tensor]:
        return (score_of(matrix, score, key) for matrix in pool)

    limit, below = kth_smallest(scores, num)
    ties = num - below
    for matrix, found in zip(pool, scores(), strict=True):
        found = found.float().contiguous()
        equal = (found == limit).reshape(-1).nonzero().view(-1)[:ties]
        ties -= len(equal)
        gone = found < limit
        gone.view(-1)[equal] = True
        matrix.weight()[gone.to(matrix.weight().device)] = 0.0


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")
