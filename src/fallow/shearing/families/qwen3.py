"""Qwen3: Llama with norms of queries and keys, which live inside a head and so are never cut."""

from dataclasses import replace

from fallow.shearing.families.family import Slots
from fallow.shearing.families.llama import BIASES, INSIDE, LLAMA

_NORMS: dict[str, Slots] = {"self_attn.q_norm.weight": ("whole",), "self_attn.k_norm.weight": ("whole",)}

QWEN3 = replace(LLAMA, model_type="qwen3", inside={**INSIDE, **BIASES, **_NORMS}, whole_heads=False)
