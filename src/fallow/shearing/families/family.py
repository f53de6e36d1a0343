"""What shearing has to know of an architecture: where its units sit, what its configuration calls them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from fallow.errors import UserError
from fallow.shearing.shape import AXES, Axis, Shape
from fallow.shearing.slots import Slot

Config = Any
"""A transformers configuration."""

Slots = tuple[Slot, ...]
Refusals = dict[str, str]
"""Axis -> why it cannot be cut; the key "" is for the whole model."""


def _none(config: Config) -> Refusals:
    return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One architecture.

    Adding one is a file with such a table, a line in `families/__init__.py`, and a row in the tests: a cut model must
    give the logits of the gated one.
    """

    model_type: str
    """As in `config.json`."""

    sizes: Mapping[str, str]
    """Our names of the sizes -> the configuration's. Without `kv_heads` every head has its own keys; without
    `head_size` it is hidden / heads."""

    blocks: str
    """Dotted name of the list of layers."""

    inside: Mapping[str, Slots]
    """Tensors of a layer, by their names inside it."""

    outside: Mapping[str, Slots]
    """All other tensors."""

    attention_out: str
    """Inside a layer: the projection that reads the heads and writes the residual stream."""

    mlp_out: str
    """Inside a layer: the projection that reads the MLP's units and writes the residual stream."""

    norms: tuple[str, ...]
    """Inside a layer: norms that read the residual stream."""

    final_norm: str
    """The norm before the head."""

    norm: Literal["rms", "rms + 1", "layer"] = "rms"
    """How they are computed; `rms + 1` scales by one plus its weight."""

    width_is_free: bool = True
    """Whether heads times head size may differ from the hidden size."""

    whole_heads: bool = False
    """Whether transformers wants the hidden size to be a multiple of the number of heads all the same."""

    also: Mapping[str, str] = field(default_factory=dict)
    """Further keys of the configuration -> the size of ours that they repeat."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Names of tensors in older files -> names in today's models."""

    refusals: Callable[[Config], Refusals] = _none
    """What this configuration does not allow."""

    adjust: Callable[[str, Tensor, Shape, Shape, bool], Tensor] | None = None
    """(name, cut tensor, source, target, tied) -> the tensor with what the architecture derives from sizes undone."""

    def shape_of(self, config: Config) -> Shape:
        """The sizes in a configuration."""
        found: dict[str, Any] = {name: getattr(config, key, None) for name, key in self.sizes.items()}
        hidden, heads = int(found["hidden"]), int(found["heads"])
        return Shape(
            layers=int(found["layers"]),
            hidden=hidden,
            heads=heads,
            kv_heads=int(found.get("kv_heads") or heads),
            head_size=int(found.get("head_size") or hidden // heads),
            inner=int(found["inner"] or 4 * hidden),  # GPT-2 leaves it out
        )

    def resized(self, values: Mapping[str, Any], shape: Shape, layers: tuple[int, ...] | None = None) -> dict[str, Any]:
        """The values of a configuration with other sizes.

        Args:
            values: plain values, with or without `model_type`.
            shape: the sizes.
            layers: which layers they are; lists with an entry a layer keep step. By default the first ones.
        """
        changed = dict(values)
        old = values.get(self.sizes["layers"])
        changed.update({key: getattr(shape, name) for name, key in self.sizes.items()})
        changed.update({key: getattr(shape, name) for key, name in self.also.items()})
        listed = values.get("layer_types")
        if isinstance(listed, list) and len(listed) == old:
            changed["layer_types"] = [listed[i] for i in (layers or range(shape.layers))]
        return changed

    def slots_of(self, name: str) -> tuple[Slots, int | None]:
        """The slots of a tensor, and the number of its layer in the source (None outside the layers).

        Raises:
            UserError: the family has no such tensor.
        """
        prefix = f"{self.blocks}."
        if name.startswith(prefix):
            number, _, inside = name.removeprefix(prefix).partition(".")
            if inside in self.inside and number.isdigit():
                return self.inside[inside], int(number)
        elif name in self.outside:
            return self.outside[name], None
        raise UserError(
            f"{name} is not known to be part of a {self.model_type}: nobody could say how to cut it. Only stock models "
            "can be sheared; merge adapters and converted layers first"
        )

    def in_layer(self, number: int, inside: str) -> str:
        """The full name of something in a layer."""
        return f"{self.blocks}.{number}.{inside}"

    def refuse(self, config: Config, axes: tuple[Axis, ...]) -> None:
        """Refuse axes that this configuration does not allow.

        Raises:
            UserError: names the model type, the axis and the reason.
        """
        found = self.refusals(config)
        for axis in ("", *AXES):
            if axis in found and (not axis or axis in axes):
                what = f"{axis} of {self.model_type}" if axis else self.model_type
                raise UserError(f"{what} cannot be cut: {found[axis]}")


def check_target(family: Family, config: Config, target: Shape) -> None:
    """Refuse a target that this model cannot be cut to.

    Raises:
        UserError: says which size does not fit, why, and the nearest that does.
    """
    source = family.shape_of(config)
    for name in ("layers", "hidden", "heads", "kv_heads", "inner"):
        wanted, there = getattr(target, name), getattr(source, name)
        if not 1 <= wanted <= there:
            raise UserError(
                f"{name} is {wanted}, but the source has {there}, and shearing only takes away. "
                f"Write a number from 1 to {there}"
            )
    if target.head_size != source.head_size:
        raise UserError(
            f"the target has heads of {target.head_size}, the source of {source.head_size}. The size of a head is "
            "inherited: choose hidden and heads for it"
        )
    family.refuse(config, source.changed(target))
    _check_heads(source, target)
    width = target.heads * target.head_size
    if not family.width_is_free and width != target.hidden:
        raise UserError(
            f"heads is {target.heads} and hidden {target.hidden}, but in a {family.model_type} the heads, of "
            f"{source.head_size} each, fill the hidden size exactly. Write heads: {target.hidden // source.head_size}, "
            f"hidden: {target.hidden // source.head_size * source.head_size}"
        )
    if family.whole_heads and target.hidden % target.heads:
        raise UserError(
            f"hidden is {target.hidden}, but transformers wants it to be a multiple of heads = {target.heads} in a "
            f"{family.model_type}. Did you mean {max(target.hidden // target.heads, 1) * target.heads}?"
        )


def _check_heads(source: Shape, target: Shape) -> None:
    if target.heads % target.kv_heads:
        near = max(target.heads // target.kv_heads, 1) * target.kv_heads
        raise UserError(
            f"heads is {target.heads}, but {target.kv_heads} heads of keys and values are kept, and each needs the "
            f"same number of query heads. Did you mean {near}?"
        )
    if target.group > source.group:
        raise UserError(
            f"heads is {target.heads} on {target.kv_heads} heads of keys and values, {target.group} for each, but the "
            f"source has {source.group} for each. Write at most heads: {target.kv_heads * source.group}"
        )
