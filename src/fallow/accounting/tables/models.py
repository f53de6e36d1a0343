"""Configurations of the published models that the tables are about."""

from typing import Any

Config = dict[str, Any]


def _gpt2(width: int, blocks: int, heads: int, positions: int = 1024) -> Config:
    return {"model_type": "gpt2", "n_embd": width, "n_layer": blocks, "n_head": heads, "n_positions": positions}


def _llama(width: int, inner: int, blocks: int, heads: int, kv_heads: int | None = None) -> Config:
    return {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": width, "intermediate_size": inner,
        "num_hidden_layers": blocks, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
    }  # fmt: skip


def _pythia(width: int, blocks: int, heads: int) -> Config:
    return {
        "model_type": "gpt_neox", "vocab_size": 50304, "hidden_size": width, "intermediate_size": 4 * width,
        "num_hidden_layers": blocks, "num_attention_heads": heads,
    }  # fmt: skip


SPDF: dict[str, Config] = {"GPT-2 Small": _gpt2(768, 12, 12, 2048), "GPT-3 XL": _gpt2(2048, 24, 16, 2048)}
"""SPDF, supplement table 1."""

GPT2_MEDIUM = _gpt2(1024, 24, 16)

SLTRAIN: dict[str, Config] = {
    "60M": _llama(512, 1376, 8, 8),
    "130M": _llama(768, 2048, 12, 12),
    "350M": _llama(1024, 2736, 24, 16),
    "1B": _llama(2048, 5461, 24, 32),
    "7B": _llama(4096, 11008, 32, 32),
}
"""SLTrain's configurations, which are GaLore's."""

LLAMA2: dict[str, Config] = {
    "LLaMA2-7B": _llama(4096, 11008, 32, 32),
    "LLaMA2-13B": _llama(5120, 13824, 40, 40),
    "LLaMA2-70B": _llama(8192, 28672, 80, 64, 8),
}

SHEARED: dict[str, Config] = {
    "2.7B": _llama(2560, 6912, 32, 20),
    "1.3B": _llama(2048, 5504, 24, 16),
    "370M": _llama(1024, 2816, 24, 8),
}
"""Target shapes of Sheared-LLaMA; heads = hidden size / 128, the head size of the source."""

PYTHIA: dict[str, Config] = {
    "pythia-70m": _pythia(512, 6, 8),
    "pythia-160m": _pythia(768, 12, 12),
    "pythia-410m": _pythia(1024, 24, 16),
    "pythia-1.4b": _pythia(2048, 24, 16),
    "pythia-2.8b": _pythia(2560, 32, 32),
}

BERT_BASE: Config = {"model_type": "bert"}

ROBERTA_LARGE: Config = {
    "model_type": "roberta", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "max_position_embeddings": 514, "type_vocab_size": 1,
}  # fmt: skip
