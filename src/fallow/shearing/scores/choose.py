"""From a score to the units that stay."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.random import Key
from fallow.shearing.families import Family, family_of
from fallow.shearing.groups import Group, best, groups_of, kept_of
from fallow.shearing.kept import Kept
from fallow.shearing.scores.depth import drop_one, influence
from fallow.shearing.scores.example import Example, on_device
from fallow.shearing.scores.inputs import input_scores
from fallow.shearing.scores.magnitude import magnitude
from fallow.shearing.scores.names import By, Depth, Sharing
from fallow.shearing.scores.taylor import taylor
from fallow.shearing.shape import Axis, Shape

_WITHOUT_DATA = ("random", "magnitude")


def needs_data(by: By, depth: Depth, groups: Sequence[Group]) -> bool:
    """Whether the choice needs text."""
    deep = any(group.axis == "layers" for group in groups)
    return by not in _WITHOUT_DATA or (deep and depth != "auto")


def choose(
    model: nn.Module,
    target: Shape,
    by: By,
    examples: Iterable[Example] = (),
    *,
    sharing: Sharing = "auto",
    depth: Depth = "auto",
    seed: int = 0,
) -> Kept:
    """The units of a model that a score says to keep, with open gates.

    Args:
        model: a stock decoder.
        target: the shape to come to.
        by: `random`; `magnitude` (sum of squares of the weights of a unit); `activation`, `wanda`, `fluctuation` (see
            `input_scores`); `taylor` (see `fallow.shearing.scores.taylor`).
        examples: text, for all but the first two.
        sharing: what is pruned together under grouped queries; see `groups_of`.
        depth: how layers are scored: `influence` or `loss` (see `fallow.shearing.scores.depth`). `auto` takes `by` for
            random, magnitude and taylor, and the influence for the others, which score what layers read.
        seed: of the random choice.

    Raises:
        UserError: a target that does not fit, or no examples where some are needed.
    """
    stock: Any = model
    family = family_of(stock.config)
    source = family.shape_of(stock.config)
    groups = groups_of(source, target, sharing)
    device = next(model.parameters()).device
    given = on_device(examples, device)
    if needs_data(by, depth, groups) and not given:
        raise UserError(f"by {by} (depth {depth}) measures the model on text, but no examples are given")
    scores = _scores(model, family, source, groups, by, given, seed)
    if any(group.axis == "layers" for group in groups):
        if depth == "loss":
            scores["layers"] = drop_one(model, family, source, given)
        elif depth == "influence" or by in ("activation", "wanda", "fluctuation"):
            scores["layers"] = influence(model, family, source, given)
    return by_scores(source, groups, scores)


def choose_by_weights(
    family: Family, source: Shape, groups: Sequence[Group], by: By, weights: Iterable[tuple[str, Tensor]], seed: int = 0
) -> Kept:
    """The same for scores that need no text, from tensors that come one after the other.

    Raises:
        UserError: the score needs text.
    """
    if by == "random":
        return by_scores(source, groups, _random(groups, seed))
    if by != "magnitude":
        raise UserError(f"by {by} needs a model in memory and text; random and magnitude do not")
    return by_scores(source, groups, magnitude(family, source, weights).by_group(groups))


def by_scores(source: Shape, groups: Sequence[Group], scores: dict[Axis, Tensor]) -> Kept:
    """The highest scores of each row, with open gates.

    Raises:
        UserError: a score is not a number.
    """
    for axis, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise UserError(f"scores of {axis} are not finite: the model's weights or activations are not")
    masks = {group.axis: best(scores[group.axis], group.keep).float() for group in groups}
    return kept_of(source, tuple(groups), masks)


def _scores(
    model: nn.Module,
    family: Family,
    source: Shape,
    groups: Sequence[Group],
    by: By,
    examples: Sequence[Example],
    seed: int,
) -> dict[Axis, Tensor]:
    match by:
        case "random":
            return _random(groups, seed)
        case "magnitude":
            return magnitude(family, source, model.named_parameters()).by_group(groups)
        case "taylor":
            return taylor(model, family, source, groups, examples)
        case _:
            return input_scores(model, family, source, examples, by).by_group(groups)


def _random(groups: Sequence[Group], seed: int) -> dict[Axis, Tensor]:
    return {
        group.axis: torch.from_numpy(Key(seed, f"cut/{group.axis}").uniform(group.num_gates)).view(group.shape)
        for group in groups
    }
