"""GPT-NeoX and Pythia: layer norms, parallel branches, queries, keys and values interleaved head by head."""

from fallow.shearing.families.family import Family

GPT_NEOX = Family(
    model_type="gpt_neox",
    sizes={
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "inner": "intermediate_size",
    },
    blocks="gpt_neox.layers",
    inside={
        "input_layernorm.weight": ("norm",),
        "input_layernorm.bias": ("norm",),
        "post_attention_layernorm.weight": ("norm",),
        "post_attention_layernorm.bias": ("norm",),
        "attention.query_key_value.weight": ("queries+keys+values", "hidden"),
        "attention.query_key_value.bias": ("queries+keys+values",),
        "attention.dense.weight": ("stream", "context"),
        "attention.dense.bias": ("stream",),
        "mlp.dense_h_to_4h.weight": ("inner", "hidden"),
        "mlp.dense_h_to_4h.bias": ("inner",),
        "mlp.dense_4h_to_h.weight": ("stream", "product"),
        "mlp.dense_4h_to_h.bias": ("stream",),
    },
    outside={
        "gpt_neox.embed_in.weight": ("whole", "hidden"),
        "gpt_neox.final_layer_norm.weight": ("norm",),
        "gpt_neox.final_layer_norm.bias": ("norm",),
        "lm_head.weight": ("whole", "hidden"),
    },
    attention_out="attention.dense",
    mlp_out="mlp.dense_4h_to_h",
    norms=("input_layernorm", "post_attention_layernorm"),
    final_norm="gpt_neox.final_layer_norm",
    norm="layer",
    width_is_free=False,
    renamed={"embed_out.weight": "lm_head.weight"},
)
