"""Gemma: norms scale by one plus their weight, and embeddings are multiplied by the root of the hidden size."""

import math
from dataclasses import replace

from torch import Tensor

from fallow.shearing.families.llama import BIASES, INSIDE, LLAMA
from fallow.shearing.shape import Shape


def _undo_scale(name: str, tensor: Tensor, source: Shape, target: Shape, tied: bool) -> Tensor:
    """Make up for the other root of the hidden size: in the embedding, and where the head shares it, in the last norm.

    The model multiplies embeddings by sqrt(hidden). A smaller one would multiply by less, so the table takes
    sqrt(source / target); a tied head takes it too, which the norm before it takes back.
    """
    ratio = math.sqrt(source.hidden / target.hidden)
    if name == "model.embed_tokens.weight" or (tied and name == "lm_head.weight"):
        return (tensor.float() * ratio).to(tensor.dtype) if tensor.element_size() < 4 else tensor * ratio
    if tied and name == "model.norm.weight":
        return ((1.0 + tensor.double()) / ratio - 1.0).to(tensor.dtype)
    return tensor


GEMMA = replace(
    LLAMA,
    model_type="gemma",
    inside={**INSIDE, **{name: slots for name, slots in BIASES.items() if name.startswith("self_attn")}},
    norm="rms + 1",
    whole_heads=False,
    adjust=_undo_scale,
)
