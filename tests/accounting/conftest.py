"""Tiny models of each family, on the meta device: shapes without memory."""

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import nn

_COMMON = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_GQA = {**_COMMON, "num_key_value_heads": 2, "intermediate_size": 24}
CONFIGS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=50, n_embd=16, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2
    ),
    "llama": lambda: transformers.LlamaConfig(**_GQA),
    "llama-tied": lambda: transformers.LlamaConfig(**_GQA, tie_word_embeddings=True),
    "qwen3-wide-heads": lambda: transformers.Qwen3Config(**_GQA, head_dim=8),
    "mistral": lambda: transformers.MistralConfig(**_GQA, sliding_window=None),
    "opt-projected": lambda: transformers.OPTConfig(
        **_COMMON, ffn_dim=24, word_embed_proj_dim=8, max_position_embeddings=32
    ),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**_COMMON, intermediate_size=24),
}


@pytest.fixture(params=sorted(CONFIGS))
def meta_model(request: pytest.FixtureRequest) -> nn.Module:
    return build(CONFIGS[request.param](), "meta")


@pytest.fixture
def make() -> Callable[..., nn.Module]:
    return lambda family, device="meta": build(CONFIGS[family](), device)


def build(config: transformers.PretrainedConfig, device: str) -> nn.Module:
    torch.manual_seed(0)
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
