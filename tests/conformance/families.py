"""Tiny models of the supported families, without a network."""

from typing import Any

import torch
from torch import nn

VOCABULARY = 96

_LLAMA = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2",
        "n_layer": 2,
        "n_embd": 32,
        "n_head": 4,
        "vocab_size": VOCABULARY,
        "n_positions": 64,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "llama": {"model_type": "llama", **_LLAMA},
    "llama tied": {"model_type": "llama", **_LLAMA, "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", **_LLAMA},
    "qwen3": {"model_type": "qwen3", **_LLAMA, "head_dim": 8},
    "mistral": {"model_type": "mistral", **_LLAMA, "head_dim": 8},
    "gpt_neox": {
        "model_type": "gpt_neox",
        **{k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"},
    },
    "opt": {
        "model_type": "opt",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_attention_heads": 4,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 32,
        "dropout": 0.0,
    },
}

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    name: (
        architecture,
        {
            "model_type": name.split()[0],
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 64,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
    )
    for name, architecture in (
        ("bert", "BertForMaskedLM"),
        ("roberta", "RobertaForMaskedLM"),
        ("bert classifier", "BertForSequenceClassification"),
        ("roberta classifier", "RobertaForSequenceClassification"),
    )
}


def tiny(family: str) -> nn.Module:
    """A model of the family with fresh weights, always the same ones, in evaluation mode."""
    from fallow.folder import build

    torch.manual_seed(0)
    if family in ENCODERS:
        architecture, config = ENCODERS[family]
        return build(config, architecture).eval()
    return build(CONFIGS[family]).eval()


def tokens(batch: int = 2, length: int = 12) -> torch.Tensor:
    """Token ids, always the same ones."""
    return torch.randint(2, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))
