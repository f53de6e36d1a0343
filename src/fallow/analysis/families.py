"""Where the matrices of a block lie in the weights of each model family."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fallow.errors import unknown

KINDS = {
    "q": "Q",
    "k": "K",
    "v": "V",
    "o": "attention out",
    "gate": "MLP gate",
    "in": "MLP in",
    "out": "MLP out",
}
"""The matrices of a block in the order of the computation. SPDF calls them W_Q, W_K, W_V, W_D, W_I and W_O; the gate is
that of SwiGLU, which its models do not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """How a family names the weights of its blocks."""

    prefix: str
    """What a model with a head puts before the names of the model without one."""

    blocks: str
    """The list of blocks, as in `h.0.attn`."""

    matrices: Mapping[str, tuple[str, ...]]
    """Layer of a block -> the matrices in its weight; several where they are fused."""

    transposed: bool = False
    """Weights lie as (d_in, d_out): GPT-2's Conv1D."""

    interleaved: bool = False
    """Fused rows go head by head (Q, K, V of head 0, then of head 1), not matrix by matrix."""


_LLAMA = Family(
    prefix="model",
    blocks="layers",
    matrices={
        "self_attn.q_proj": ("q",),
        "self_attn.k_proj": ("k",),
        "self_attn.v_proj": ("v",),
        "self_attn.o_proj": ("o",),
        "mlp.gate_proj": ("gate",),
        "mlp.up_proj": ("in",),
        "mlp.down_proj": ("out",),
    },
)
_BERT = {
    "attention.self.query": ("q",),
    "attention.self.key": ("k",),
    "attention.self.value": ("v",),
    "attention.output.dense": ("o",),
    "intermediate.dense": ("in",),
    "output.dense": ("out",),
}

FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        prefix="transformer",
        blocks="h",
        matrices={
            "attn.c_attn": ("q", "k", "v"),
            "attn.c_proj": ("o",),
            "mlp.c_fc": ("in",),
            "mlp.c_proj": ("out",),
        },
        transposed=True,
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "opt": Family(
        prefix="model",
        blocks="decoder.layers",
        matrices={
            "self_attn.q_proj": ("q",),
            "self_attn.k_proj": ("k",),
            "self_attn.v_proj": ("v",),
            "self_attn.out_proj": ("o",),
            "fc1": ("in",),
            "fc2": ("out",),
        },
    ),
    "gpt_neox": Family(
        prefix="gpt_neox",
        blocks="layers",
        matrices={
            "attention.query_key_value": ("q", "k", "v"),
            "attention.dense": ("o",),
            "mlp.dense_h_to_4h": ("in",),
            "mlp.dense_4h_to_h": ("out",),
        },
        interleaved=True,
    ),
    "bert": Family(prefix="bert", blocks="encoder.layer", matrices=_BERT),
    "roberta": Family(prefix="roberta", blocks="encoder.layer", matrices=_BERT),
}
"""`model_type` of a config -> its family. A new one is an entry here."""


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a Hugging Face config.

    Raises:
        UserError: one that is not known here.
    """
    kind = str(config.get("model_type", ""))
    if kind not in FAMILIES:
        raise unknown("model_type", kind, FAMILIES)
    return FAMILIES[kind]


def split(family: Family, kinds: tuple[str, ...], weight: Tensor, num_heads: int) -> dict[str, Tensor]:
    """The matrices in a weight, each as (d_out, d_in).

    Args:
        family: says how they lie.
        kinds: which they are; one, or the three of a fused projection.
        weight: as stored.
        num_heads: attention heads, for interleaved rows.

    >>> import torch
    >>> fused = torch.arange(6.0)[:, None]  # two heads of one row each
    >>> {kind: part.flatten().tolist() for kind, part in split(FAMILIES["gpt_neox"], ("q", "k"), fused[:4], 2).items()}
    {'q': [0.0, 2.0], 'k': [1.0, 3.0]}
    """
    rows = weight.T if family.transposed else weight
    if len(kinds) == 1:
        return {kinds[0]: rows}
    if family.interleaved:
        by_head = rows.reshape(num_heads, len(kinds), -1, rows.shape[1])
        return {kind: by_head[:, i].reshape(-1, rows.shape[1]) for i, kind in enumerate(kinds)}
    return dict(zip(kinds, rows.chunk(len(kinds)), strict=True))
