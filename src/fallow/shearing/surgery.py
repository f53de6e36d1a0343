"""Cut a model in memory: from source weights and the units that stay to a smaller stock model."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.shearing.families import Family, check_target, family_of
from fallow.shearing.families.family import Slots
from fallow.shearing.kept import Kept
from fallow.shearing.slots import select


def cut(model: nn.Module, kept: Kept) -> nn.Module:
    """A smaller model of the same class with a standard configuration.

    Its outputs are those of `model` with every dropped unit gated to 0 and every kept one multiplied by its gate, up to
    rounding (fp32: 1e-6 relative). Gates are absorbed by what the units write: of a channel and a layer by the rows of
    the output projections and by the norms, of a head and an MLP unit by the columns that read it. Norms of the
    smaller model average over fewer channels, as the masked ones did. Embeddings and head are sliced only.

    Args:
        model: a stock Hugging Face decoder of a family in `fallow.shearing.families`; not changed.
        kept: the units, for a model of this shape.

    Raises:
        UserError: a family, axis or shape that cannot be cut, or weights that are not those of a stock model.

    Differs from the released code: embedding and head are not multiplied by the gates of the channels, which the
    training forward does not do either (with gates at their ceiling that is off by 5e-3, otherwise by more); gates of
    heads go to the columns of the output projection, not to the values, which queries share.
    """
    stock: Any = model
    family = family_of(stock.config)
    source = family.shape_of(stock.config)
    if source != kept.source:
        raise UserError(f"the units were chosen for another model: {kept.source}; this one has {source}")
    check_target(family, stock.config, kept.target)
    tied = bool(getattr(stock.config, "tie_word_embeddings", False))
    weights = model.state_dict()
    tensors = dict(cut_tensors(family, kept, weights, tied=tied))
    smaller = _empty(model, cut_config(family, stock.config, kept))
    own = smaller.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        raise UserError(f"{name} is in one of the two models only: the source is not a stock {type(model).__name__}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            if own[name].shape != tensor.shape:
                raise UserError(f"{name} came out as {tuple(tensor.shape)}, expected {tuple(own[name].shape)}")
            own[name].copy_(tensor)
    for name, parameter in smaller.named_parameters():
        parameter.requires_grad_(model.get_parameter(_name_in_source(family, kept, name)).requires_grad)
    smaller.train(model.training)
    return smaller


def cut_config(family: Family, config: Any, kept: Kept) -> Any:
    """The configuration of the smaller model.

    Raises:
        UserError: transformers refuses it.
    """
    values = family.resized(config.to_dict(), kept.target, kept.layers)
    try:
        return type(config).from_dict(values)
    except Exception as error:  # transformers raises many kinds
        first = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(f"transformers refuses the target ({kept.target}): {first}") from error


def cut_tensors(family: Family, kept: Kept, weights: dict[str, Tensor], *, tied: bool) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the smaller model by name, one after the other."""
    places = {number: position for position, number in enumerate(kept.layers)}
    for name, tensor in weights.items():
        slots, layer = family.slots_of(name)
        if layer is not None and layer not in places:
            continue
        place = None if layer is None else places[layer]
        yield renumbered(family, name, place), cut_tensor(family, kept, name, tensor, slots, place, tied=tied)


def cut_tensor(
    family: Family, kept: Kept, name: str, tensor: Tensor, slots: Slots, place: int | None, *, tied: bool
) -> Tensor:
    """One tensor, cut and with its gates absorbed.

    Args:
        family: the architecture.
        kept: the units.
        name: of the tensor in the source.
        tensor: its values; not changed.
        slots: what its dimensions count.
        place: number of its layer in the smaller model; None outside the layers.
        tied: whether the head shares the embedding's memory.
    """
    if tensor.ndim != len(slots):
        raise UserError(f"{name} has {tensor.ndim} dimensions, expected {len(slots)}")
    found = tensor.detach()
    # A norm that scales by 1 + w absorbs z as z (1 + w) - 1.
    shift = 1.0 if family.norm == "rms + 1" and slots == ("norm",) else 0.0
    for dim, slot in enumerate(slots):
        selection = select(slot, kept, place)
        if selection.index is not None:
            found = found.index_select(dim, selection.index.to(found.device))
        if selection.factor is not None:
            wide = found.double() if found.element_size() == 8 else found.float()
            factor = selection.factor.to(wide).view([-1 if d == dim else 1 for d in range(found.ndim)])
            found = ((wide + shift) * factor - shift).to(found.dtype)
    if family.adjust is not None and kept.source.hidden != kept.target.hidden:
        found = family.adjust(name, found, kept.source, kept.target, tied)
    return found


def renumbered(family: Family, name: str, place: int | None) -> str:
    """The name of a tensor with its layer's new number."""
    if place is None:
        return name
    _, _, inside = name.removeprefix(f"{family.blocks}.").partition(".")
    return family.in_layer(place, inside)


def _name_in_source(family: Family, kept: Kept, name: str) -> str:
    _, place = family.slots_of(name)
    return renumbered(family, name, None if place is None else kept.layers[place])


def _empty(model: nn.Module, config: Any) -> nn.Module:
    """A model of the same class, type and device; its weights are to be overwritten."""
    stock: Any = model
    with torch.random.fork_rng(devices=[]):  # building draws weights that are thrown away
        smaller: Any = type(model)(config)
    smaller.config._attn_implementation = stock.config._attn_implementation
    if stock.can_generate():
        smaller.generation_config = stock.generation_config
    reference = next(model.parameters())
    built: nn.Module = smaller.to(device=reference.device, dtype=reference.dtype)
    return built
