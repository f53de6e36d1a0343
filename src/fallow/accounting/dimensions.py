"""The sizes of a model, read from the values of its Hugging Face configuration; nothing is imported or built."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fallow.errors import UserError, nearest, unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimensions:
    """Sizes that every family has."""

    family: str
    """`model_type` of the configuration."""

    num_blocks: int
    hidden: int
    """Width of the residual stream."""

    heads: int
    kv_heads: int
    """Heads of keys and values; fewer than `heads` under grouped queries."""

    head_size: int
    inner: int
    """Width inside the MLP."""

    vocab: int
    positions: int
    """Rows of a table of positions; with rotary positions only the longest sequence that the model is meant for."""

    tied: bool
    """Whether the head shares the memory of the embedding."""


@dataclass(frozen=True, slots=True)
class Family:
    """How a family names its sizes and what it assumes when they are absent, as transformers does."""

    defaults: Mapping[str, Any]
    aliases: Mapping[str, str]
    """Names of this family by the general ones: {"hidden_size": "n_embd"}."""


_GPT2_NAMES = {
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions", "intermediate_size": "n_inner",
}  # fmt: skip
_LLAMA = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None, "max_position_embeddings": 2048,
    "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False, "hidden_act": "silu",
    "attention_dropout": 0.0,
}  # fmt: skip
_QWEN = {
    **_LLAMA, "vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
}  # fmt: skip
_BERT = {
    "vocab_size": 30522, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 512, "type_vocab_size": 2, "tie_word_embeddings": True,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "add_cross_attention": False,
}  # fmt: skip
FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        {
            "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "n_inner": None,
            "tie_word_embeddings": True, "activation_function": "gelu_new", "add_cross_attention": False,
            "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1,
        },
        _GPT2_NAMES,
    ),
    "llama": Family(_LLAMA, {}),
    "mistral": Family(
        {**_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 4096 * 32}, {}
    ),
    "qwen2": Family(_QWEN, {}),
    "qwen3": Family({**_QWEN, "head_dim": 128}, {}),
    "gemma": Family(
        {
            **_LLAMA, "vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
            "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "max_position_embeddings": 8192,
            "tie_word_embeddings": True, "hidden_act": "gelu_pytorch_tanh",
        },
        {},
    ),
    "gpt_neox": Family(
        {
            "vocab_size": 50432, "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 44,
            "num_attention_heads": 64, "max_position_embeddings": 2048, "tie_word_embeddings": False,
            "attention_bias": True, "hidden_act": "gelu", "hidden_dropout": 0.0, "attention_dropout": 0.0,
        },
        {},
    ),
    "opt": Family(
        {
            "vocab_size": 50272, "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "max_position_embeddings": 2048, "word_embed_proj_dim": None,
            "tie_word_embeddings": True, "enable_bias": True, "do_layer_norm_before": True,
            "_remove_final_layer_norm": False, "layer_norm_elementwise_affine": True, "activation_function": "relu",
            "dropout": 0.1, "attention_dropout": 0.0,
        },
        {"intermediate_size": "ffn_dim"},
    ),
    "bert": Family(_BERT, {}),
    "roberta": Family({**_BERT, "vocab_size": 50265}, {}),
}  # fmt: skip
"""The families whose weights are known without building them."""


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the family's own names, and its defaults where a value is absent.

    Raises:
        UserError: no or an unknown `model_type`, a key that is a misspelt size, or a model with cross-attention.
    """
    family = str(config.get("model_type", ""))
    if family not in FAMILIES:
        raise unknown("model_type", family, FAMILIES)
    known = FAMILIES[family]
    values = dict(known.defaults)
    for key, value in config.items():
        own = known.aliases.get(key, key)
        if own not in values and key not in known.aliases:
            close = nearest(key, [*values, *known.aliases])
            if close and _is_misspelt(key, close) and close not in config:
                raise UserError(f"model.config: unknown key {key}. Did you mean {close}?")
        values[own] = value
    if values.get("add_cross_attention"):
        raise UserError("model.config.add_cross_attention is true, but models with cross-attention are not counted")
    return values


def dimensions_of(config: Mapping[str, Any]) -> Dimensions:
    """The sizes of a model.

    Raises:
        UserError: sizes that contradict each other, or what `complete` raises.

    >>> dimensions_of({"model_type": "gpt2"}).head_size
    64
    """
    values = complete(config)
    family = str(config["model_type"])
    aliases = FAMILIES[family].aliases

    def get(key: str) -> Any:
        return values.get(aliases.get(key, key))

    found = {}
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings"):
        found[key] = get(key)
        if not isinstance(found[key], int) or found[key] < 1:
            raise UserError(
                f"model.config.{aliases.get(key, key)} is {found[key]}, but it must be a whole number of at least 1"
            )
    hidden, heads = found["hidden_size"], found["num_attention_heads"]
    if hidden % heads:
        raise UserError(
            f"model.config: {aliases.get('hidden_size', 'hidden_size')} is {hidden}, which {heads} heads cannot share. "
            f"Did you mean {round(hidden / heads) * heads}?"
        )
    kv_heads = get("num_key_value_heads") or heads
    if heads % kv_heads:
        raise UserError(
            f"model.config: num_attention_heads is {heads}, but it must be a multiple of num_key_value_heads = "
            f"{kv_heads}"
        )
    return Dimensions(
        family=family,
        num_blocks=found["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=get("head_dim") or hidden // heads,
        inner=get("intermediate_size") or 4 * hidden,
        vocab=found["vocab_size"],
        positions=found["max_position_embeddings"],
        tied=bool(values["tie_word_embeddings"]),
    )


def _is_misspelt(key: str, close: str) -> bool:
    """Whether a key differs from a known one by a plural or a letter, not by meaning."""
    return abs(len(key) - len(close)) <= 1 and len(set(key) ^ set(close)) <= 1 and nearest(key, [close]) == close
