"""OPT: learned positions, layer norms, a plain MLP; the 350M model is built otherwise and refused."""

from fallow.shearing.families.family import Config, Family, Refusals


def _refusals(config: Config) -> Refusals:
    found = {}
    if config.word_embed_proj_dim != config.hidden_size:
        found[""] = "it projects its embeddings (word_embed_proj_dim), as OPT-350M does, so the stream has two widths"
    elif not config.do_layer_norm_before:
        found[""] = (
            "its norms come after the sum (do_layer_norm_before: false, OPT-350M), so a layer without its branches is "
            "not the identity, and no norm masks what the first layer reads"
        )
    elif config._remove_final_layer_norm or not config.layer_norm_elementwise_affine:
        found["hidden"] = "its head reads the stream without a norm that could absorb the gates"
    return found


OPT = Family(
    model_type="opt",
    sizes={
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "inner": "ffn_dim",
    },
    blocks="model.decoder.layers",
    inside={
        "self_attn_layer_norm.weight": ("norm",),
        "self_attn_layer_norm.bias": ("norm",),
        "self_attn.q_proj.weight": ("queries", "hidden"),
        "self_attn.q_proj.bias": ("queries",),
        "self_attn.k_proj.weight": ("keys", "hidden"),
        "self_attn.k_proj.bias": ("keys",),
        "self_attn.v_proj.weight": ("keys", "hidden"),
        "self_attn.v_proj.bias": ("keys",),
        "self_attn.out_proj.weight": ("stream", "context"),
        "self_attn.out_proj.bias": ("stream",),
        "final_layer_norm.weight": ("norm",),
        "final_layer_norm.bias": ("norm",),
        "fc1.weight": ("inner", "hidden"),
        "fc1.bias": ("inner",),
        "fc2.weight": ("stream", "product"),
        "fc2.bias": ("stream",),
    },
    outside={
        "model.decoder.embed_tokens.weight": ("whole", "hidden"),
        "model.decoder.embed_positions.weight": ("whole", "hidden"),
        "model.decoder.final_layer_norm.weight": ("norm",),
        "model.decoder.final_layer_norm.bias": ("norm",),
        "lm_head.weight": ("whole", "hidden"),
    },
    attention_out="self_attn.out_proj",
    mlp_out="fc2",
    norms=("self_attn_layer_norm", "final_layer_norm"),
    final_norm="model.decoder.final_layer_norm",
    norm="layer",
    width_is_free=False,
    also={"word_embed_proj_dim": "hidden"},
    refusals=_refusals,
)
