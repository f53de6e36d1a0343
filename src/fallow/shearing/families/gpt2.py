"""GPT-2: learned positions, transposed `Conv1D` layers, queries, keys and values in thirds of one matrix."""

from fallow.shearing.families.family import Config, Family, Refusals


def _refusals(config: Config) -> Refusals:
    found = {}
    if config.add_cross_attention:
        found[""] = "it attends to an encoder (add_cross_attention), and its second attention has no gates"
    if config.scale_attn_by_inverse_layer_idx:
        found["layers"] = "its attention is scaled by the number of the layer (scale_attn_by_inverse_layer_idx)"
    return found


GPT2 = Family(
    model_type="gpt2",
    sizes={"layers": "n_layer", "hidden": "n_embd", "heads": "n_head", "inner": "n_inner"},
    blocks="transformer.h",
    inside={
        "ln_1.weight": ("norm",),
        "ln_1.bias": ("norm",),
        "attn.c_attn.weight": ("hidden", "queries|keys|values"),
        "attn.c_attn.bias": ("queries|keys|values",),
        "attn.c_proj.weight": ("context", "stream"),
        "attn.c_proj.bias": ("stream",),
        "ln_2.weight": ("norm",),
        "ln_2.bias": ("norm",),
        "mlp.c_fc.weight": ("hidden", "inner"),
        "mlp.c_fc.bias": ("inner",),
        "mlp.c_proj.weight": ("product", "stream"),
        "mlp.c_proj.bias": ("stream",),
    },
    outside={
        "transformer.wte.weight": ("whole", "hidden"),
        "transformer.wpe.weight": ("whole", "hidden"),
        "transformer.ln_f.weight": ("norm",),
        "transformer.ln_f.bias": ("norm",),
        "lm_head.weight": ("whole", "hidden"),
    },
    attention_out="attn.c_proj",
    mlp_out="mlp.c_proj",
    norms=("ln_1", "ln_2"),
    final_norm="transformer.ln_f",
    norm="layer",
    width_is_free=False,
    refusals=_refusals,
)
