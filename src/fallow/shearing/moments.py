"""What an optimizer remembers of a model that is cut, as the smaller model's weights have it."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fallow.shearing.families import family_of
from fallow.shearing.kept import Kept
from fallow.shearing.surgery import cut_tensors


def cut_moments(config: Any, kept: Kept, moments: dict[str, Tensor], power: int) -> dict[str, Tensor]:
    r"""Means of gradients (or of their squares) of a gated model's weights, for the weights of the model cut from it.

    A weight w of the source becomes w' = f w + a constant, f being the product of the gates that it absorbs. So the
    gradient by w' is the one by w divided by f, and its square by f^2; entries of dropped units go.

    Args:
        config: the source's transformers configuration.
        kept: the units and their gates.
        moments: by name of the weight, of its shape.
        power: 1 for means of gradients, 2 for means of their squares.
    """
    family = family_of(config)
    tied = bool(getattr(config, "tie_word_embeddings", False))
    ones = {name: torch.ones_like(moment) for name, moment in moments.items()}
    zeros = {name: torch.zeros_like(moment) for name, moment in moments.items()}
    high = dict(cut_tensors(family, kept, ones, tied=tied))
    low = dict(cut_tensors(family, kept, zeros, tied=tied))
    plain = kept.with_gates(
        layers=torch.ones_like(kept.layer_gates_l),
        hidden=torch.ones_like(kept.hidden_gates_d),
        heads=torch.ones_like(kept.head_gates_lh),
        inner=torch.ones_like(kept.inner_gates_lm),
    )
    slices = dict(cut_tensors(replace(family, adjust=None), plain, moments, tied=tied))
    return {name: (moment / (high[name] - low[name]) ** power).contiguous() for name, moment in slices.items()}
