"""Qwen2: Llama with biases on queries, keys and values. Its configuration knows `head_dim` only where it is written."""

from dataclasses import replace

from fallow.shearing.families.llama import INSIDE, LLAMA, QKV_BIASES

QWEN2 = replace(LLAMA, model_type="qwen2", inside={**INSIDE, **QKV_BIASES}, whole_heads=False)
