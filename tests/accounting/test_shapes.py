"""Weights from a configuration against the models that transformers builds."""

from typing import Any

import pytest
import torch
import transformers

from fallow.accounting.anatomy import parts
from fallow.accounting.dimensions import dimensions_of
from fallow.accounting.parameters import count_parameters
from fallow.accounting.shapes import linear_sites_of, weights_of
from fallow.conversion import match_targets
from fallow.errors import UserError
from fallow.linear import linear_sites

SMALL = {
    "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 96,
    "max_position_embeddings": 64,
}  # fmt: skip
GROUPED = {**SMALL, "num_key_value_heads": 2}
GPT2 = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 96, "n_positions": 64}
OPT = {**{k: v for k, v in SMALL.items() if k != "intermediate_size"}, "ffn_dim": 56}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", **GPT2},
    "gpt2 wide, free head": {"model_type": "gpt2", **GPT2, "n_inner": 40, "tie_word_embeddings": False},
    "gpt2 by general names": {"model_type": "gpt2", **{k: v for k, v in SMALL.items() if k != "intermediate_size"}},
    "llama": {"model_type": "llama", **GROUPED},
    "llama, biases, tied": {
        "model_type": "llama", **SMALL, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True
    },
    "llama, wide heads": {"model_type": "llama", **GROUPED, "head_dim": 16},
    "mistral": {"model_type": "mistral", **GROUPED, "head_dim": 16},
    "qwen2": {"model_type": "qwen2", **GROUPED},
    "qwen3": {"model_type": "qwen3", **GROUPED, "head_dim": 8},
    "qwen3, default heads, biases": {"model_type": "qwen3", **GROUPED, "attention_bias": True},
    "gemma": {"model_type": "gemma", **GROUPED, "head_dim": 16},
    "gpt_neox": {"model_type": "gpt_neox", **SMALL},
    "gpt_neox, no biases": {"model_type": "gpt_neox", **SMALL, "attention_bias": False, "tie_word_embeddings": True},
    "opt": {"model_type": "opt", **OPT, "word_embed_proj_dim": 32},
    "opt, projected": {"model_type": "opt", **OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    "opt, bare": {
        "model_type": "opt", **OPT, "enable_bias": False, "layer_norm_elementwise_affine": False,
        "tie_word_embeddings": False,
    },
    "bert": {"model_type": "bert", **SMALL},
    "roberta": {"model_type": "roberta", **SMALL},
}  # fmt: skip


def built(config: dict[str, Any]) -> Any:
    values = {**config, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    hf_config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(hf_config)


@pytest.mark.parametrize("name", CONFIGS)
def test_names_shapes_order_and_sharing(name: str) -> None:
    model = built(CONFIGS[name])
    seen: set[int] = set()
    expected = []
    for key, parameter in model.named_parameters(remove_duplicate=False):
        expected.append((key, tuple(parameter.shape), id(parameter) in seen))
        seen.add(id(parameter))
    assert [(w.name, w.shape, w.tied) for w in weights_of(CONFIGS[name])] == expected


@pytest.mark.parametrize("name", CONFIGS)
def test_groups_and_linear_layers(name: str) -> None:
    model, weights = built(CONFIGS[name]), weights_of(CONFIGS[name])
    groups = {module: group for module, _, group in parts(model)}
    assert {w.name: w.part for w in weights} == {w.name: groups[w.module] for w in weights}
    sites = linear_sites(model)
    assert linear_sites_of(weights) == sites
    assert {w.module for w in weights if w.target} == set(match_targets(model, sites, ()))
    for group, counts in count_parameters(model).groups.items():
        assert sum(w.numel for w in weights if w.part == group and not w.tied) == counts.positions


@pytest.mark.parametrize("name", CONFIGS)
def test_dimensions(name: str) -> None:
    config, sizes = built(CONFIGS[name]).config, dimensions_of(CONFIGS[name])
    assert (sizes.num_blocks, sizes.hidden, sizes.heads, sizes.vocab) == (
        config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.vocab_size
    )  # fmt: skip
    assert sizes.kv_heads == getattr(config, "num_key_value_heads", config.num_attention_heads)
    assert sizes.head_size == (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gpt_neox", "opt", "bert"])
def test_defaults_are_those_of_transformers(family: str) -> None:
    layers = "n_layer" if family == "gpt2" else "num_hidden_layers"
    config = {"model_type": family, layers: 1}
    expected = {name: tuple(p.shape) for name, p in built(config).named_parameters()}
    assert {w.name: w.shape for w in weights_of(config) if not w.tied} == expected


NEOX = {"model_type": "gpt_neox", "vocab_size": 50304}
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "GPT-2": ({"model_type": "gpt2"}, 124_439_808),
    "Llama 2 7B": ({"model_type": "llama"}, 6_738_415_616),
    "Llama 2 13B": (
        {"model_type": "llama", "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
         "num_attention_heads": 40},
        13_015_864_320,
    ),
    "Llama 2 70B": (
        {"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
         "num_attention_heads": 64, "num_key_value_heads": 8},
        68_976_648_192,
    ),
    "Pythia 70M": (
        {**NEOX, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8},
        70_426_624,
    ),
    "Pythia 1.4B": (
        {**NEOX, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 16},
        1_414_647_808,
    ),
    "OPT 125M": ({"model_type": "opt"}, 125_239_296),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    config, expected = PUBLISHED[name]
    assert sum(w.numel for w in weights_of(config) if not w.tied) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "lama"}, 'Did you mean "llama"'),
        ({"model_type": "gpt2", "n_layers": 3}, "unknown key n_layers. Did you mean n_layer"),
        ({"model_type": "gpt2", "n_embd": 100, "n_head": 12}, "n_embd is 100, which 12 heads cannot share"),
        ({"model_type": "llama", "num_key_value_heads": 5}, "multiple of num_key_value_heads = 5"),
        ({"model_type": "llama", "hidden_size": -4}, "hidden_size is -4"),
        ({"model_type": "gpt2", "add_cross_attention": True}, "cross-attention"),
    ],
)
def test_bad_configurations(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        weights_of(config)
