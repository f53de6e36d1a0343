"""Structured pruning: the heads of attention that the update leaves alone are cut out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fallow.conversion import guard
from fallow.errors import UserError
from fallow.linear import ReparamLinear
from fallow.linear.cut import HEADS, cut_columns, cut_rows
from fallow.linear.inputs import site_of
from fallow.linear.roles import Role
from fallow.pruning.attention import Attention, attentions
from fallow.pruning.settings import Heads
from fallow.pruning.weights import score_of
from fallow.random import Key

_WITH_HEAD_DIM = ("llama", "mistral", "qwen2", "qwen3", "gemma")
"""Families whose configuration can say a number of heads that does not follow from the width."""

Kept = Mapping[str, Sequence[int]]
"""Units that stay, ascending, by name of the attention module."""


def choose_heads(model: nn.Module, settings: Heads, key: Key) -> dict[str, list[int]]:
    """The units that stay, ascending, by name of the attention module.

    Args:
        model: stock or converted.
        settings: how many go, and by what.
        key: of the draws of `random`.

    Raises:
        UserError: all heads of a layer would go, or there is no update to go by.
    """
    check_heads(model, settings)
    found = attentions(model)
    if settings.score in ("update", "sum") and not any(m.has_update for a in found for m in a.parts.values()):
        raise UserError(
            f"prune.score is {settings.score}, but no projection of attention has an update to go by. Begin with a "
            "stage that was tuned by method dsee or lora, or write score: weight"
        )
    scores = [unit_scores(attention, settings.score, key) for attention in found]
    if settings.num:
        return {a.name: _largest(s, a.num_units - settings.num) for a, s in zip(found, scores, strict=True)}
    return _by_budget(found, scores, settings.ratio)


def check_heads(model: nn.Module, settings: Heads) -> None:
    """Whether a model has as many heads as are to go; also on the meta device.

    Raises:
        UserError: all heads of a layer would go, or the heads are not known.
    """
    for attention in attentions(model):
        _refuse_state_of_heads(model, attention)
        if settings.num >= attention.num_units:
            unit = "heads" if attention.groups == 1 else f"groups of {attention.groups} heads"
            raise UserError(
                f"num is {settings.num}, but {attention.name} has {attention.num_units} {unit}, and one has to stay. "
                f"Write at most {attention.num_units - 1}"
            )


def _refuse_state_of_heads(model: nn.Module, attention: Attention) -> None:
    """Attention that keeps more of its heads than the four projections would not fit the heads that stay.

    Raises:
        UserError: a norm over all heads (OLMo 2), sinks by head (gpt-oss), queries with gates beside them (Qwen3-Next).
    """
    kind, block = type(model).__name__, model.get_submodule(attention.name)
    size = attention.num_units * attention.groups * attention.head_size
    queries = attention.parts["q"].rows
    if queries[1] - queries[0] != attention.lines("q", torch.arange(attention.num_units)).numel() or (
        _width(model.get_submodule(attention.parts["o"].name)) != size
    ):
        raise UserError(f"heads of a {kind} cannot be cut: {attention.parts['q'].name} holds more than the queries")
    projections = {matrix.name for matrix in attention.parts.values()}
    for name, parameter in block.named_parameters():
        whole = f"{attention.name}.{name}" if attention.name else name
        if any(whole.startswith(f"{projection}.") for projection in projections):
            continue
        if parameter.numel() != attention.head_size:
            raise UserError(
                f"heads of a {kind} cannot be cut: {whole} has {parameter.numel()} numbers for all heads together"
            )


def _width(layer: nn.Module) -> int:
    site = layer.site if isinstance(layer, ReparamLinear) else site_of("", layer)
    return site.shape[1]


def unit_scores(attention: Attention, score: str, key: Key) -> Tensor:
    """What each unit of a layer is worth: the scores of its entries, summed over the projections with an update.

    Of the projections without one, |W| counts under `weight` and `random`.
    """
    total = torch.zeros(attention.num_units, dtype=torch.float64)
    for role, matrix in attention.parts.items():
        if matrix.has_update or score in ("weight", "random"):
            total += attention.by_unit(role, score_of(matrix, score, key).cpu())  # type: ignore[arg-type]
    return total


def cut_heads(model: nn.Module, kept: Kept) -> None:
    """Cut out all heads but these, in place: rows of queries, keys and values, columns of the output.

    Where the configuration of the family can say the new number of heads, it does, and the merged model is a stock one.
    Elsewhere the model carries a note of its own, which `fallow.save` keeps and `fallow.load` follows.

    Args:
        model: stock or converted.
        kept: units that stay in each layer; a layer that is not named keeps all.

    Raises:
        UserError: a unit that a layer does not have, or none left.
    """
    found = {attention.name: attention for attention in attentions(model)}
    for name, units in kept.items():
        attention = found.get(name)
        if attention is None:
            raise UserError(f"heads are to be cut in {name}, which is no attention of this {type(model).__name__}")
        if not units or sorted(set(units)) != list(units) or not 0 <= units[0] <= units[-1] < attention.num_units:
            raise UserError(f"{name} has heads 0 to {attention.num_units - 1}, but those to keep are {list(units)}")
    before = dict(getattr(model, HEADS, {}))
    for name, units in kept.items():
        _cut(model, found[name], torch.tensor(list(units)))
        before[name] = [before[name][unit] for unit in units] if name in before else list(units)
    _note(model, before)


def _cut(model: nn.Module, attention: Attention, units: Tensor) -> None:
    layers: dict[str, list[tuple[Role, Tensor]]] = {}
    for role, matrix in attention.parts.items():
        layers.setdefault(matrix.name, []).append((role, attention.lines(role, units) + _offset(role, matrix.rows)))
    for name, lines in layers.items():
        module = model.get_submodule(name)
        stay = torch.cat([own for _, own in lines]).sort().values
        smaller = (cut_columns if lines[0][0] == "o" else cut_rows)(name, module, stay)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, smaller)
    _resize(model.get_submodule(attention.name), attention, len(units))


def _offset(role: Role, rows: tuple[int, int]) -> int:
    return 0 if role == "o" else rows[0]


def _resize(module: Any, attention: Attention, num_units: int) -> None:
    """Tell the attention module of transformers its new sizes, by the names that it has."""
    heads, width = num_units * attention.groups, num_units * attention.groups * attention.head_size
    for name, value in (
        ("num_heads", heads),
        ("num_attention_heads", heads),
        ("num_key_value_heads", num_units),
        ("split_size", width),
        ("all_head_size", width),
    ):
        if hasattr(module, name):
            setattr(module, name, value)


def _note(model: Any, kept: dict[str, list[int]]) -> None:
    listed = attentions(model)
    config = model.config
    numbers = {attention.num_units for attention in listed}
    units, groups = listed[0].num_units, listed[0].groups
    told = len(numbers) == 1 and config.model_type in _WITH_HEAD_DIM and not getattr(model, HEADS, None)
    if told and _can_say(config, units * groups, units, listed[0].head_size):
        config.head_dim = listed[0].head_size
        config.num_attention_heads = units * groups
        config.num_key_value_heads = units
        return
    setattr(model, HEADS, {a.name: kept.get(a.name, list(range(a.num_units))) for a in listed})
    guard(model)


def _can_say(config: Any, heads: int, keys: int, head_dim: int) -> bool:
    """Whether a configuration with these numbers of heads can be made; a Llama's width must be a multiple of them."""
    values = {**config.to_dict(), "num_attention_heads": heads, "num_key_value_heads": keys, "head_dim": head_dim}
    try:
        type(config)(**values)
    except Exception:  # transformers raises kinds of its own
        return False
    return True


def _by_budget(found: Sequence[Attention], scores: Sequence[Tensor], ratio: float) -> dict[str, list[int]]:
    """Remove a share of all units, the lowest first; the best one of each layer is not among them."""
    total = sum(attention.num_units for attention in found)
    num = min(round(ratio * total), total - len(found))
    best = [int(s.argmax()) for s in scores]
    units = [(float(s[u]), layer, u) for layer, s in enumerate(scores) for u in range(len(s)) if u != best[layer]]
    gone = {(layer, unit) for _, layer, unit in sorted(units)[:num]}
    return {
        attention.name: [unit for unit in range(attention.num_units) if (layer, unit) not in gone]
        for layer, attention in enumerate(found)
    }


def _largest(scores: Tensor, num: int) -> list[int]:
    order = scores.argsort(descending=True, stable=True)[:num]
    return sorted(int(unit) for unit in order)
