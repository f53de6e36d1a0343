"""Llama: rotary positions, RMS norms, a gated MLP, grouped queries. The families that follow it share its table."""

from fallow.shearing.families.family import Family, Slots

SIZES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_size": "head_dim",
    "inner": "intermediate_size",
}

INSIDE: dict[str, Slots] = {
    "input_layernorm.weight": ("norm",),
    "self_attn.q_proj.weight": ("queries", "hidden"),
    "self_attn.k_proj.weight": ("keys", "hidden"),
    "self_attn.v_proj.weight": ("keys", "hidden"),
    "self_attn.o_proj.weight": ("stream", "context"),
    "post_attention_layernorm.weight": ("norm",),
    "mlp.gate_proj.weight": ("inner", "hidden"),
    "mlp.up_proj.weight": ("inner", "hidden"),
    "mlp.down_proj.weight": ("stream", "product"),
}

QKV_BIASES: dict[str, Slots] = {
    "self_attn.q_proj.bias": ("queries",),
    "self_attn.k_proj.bias": ("keys",),
    "self_attn.v_proj.bias": ("keys",),
}

BIASES: dict[str, Slots] = {
    **QKV_BIASES,
    "self_attn.o_proj.bias": ("stream",),
    "mlp.gate_proj.bias": ("inner",),
    "mlp.up_proj.bias": ("inner",),
    "mlp.down_proj.bias": ("stream",),
}

OUTSIDE: dict[str, Slots] = {
    "model.embed_tokens.weight": ("whole", "hidden"),
    "model.norm.weight": ("norm",),
    "lm_head.weight": ("whole", "hidden"),
}

LLAMA = Family(
    model_type="llama",
    sizes=SIZES,
    blocks="model.layers",
    inside={**INSIDE, **BIASES},
    outside=OUTSIDE,
    attention_out="self_attn.o_proj",
    mlp_out="mlp.down_proj",
    norms=("input_layernorm", "post_attention_layernorm"),
    final_norm="model.norm",
    whole_heads=True,
)
