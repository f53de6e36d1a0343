"""The weights of a model by name and shape, from its configuration alone: no model code, no memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fallow.accounting.dimensions import FAMILIES, Dimensions, complete, dimensions_of

if TYPE_CHECKING:
    from fallow.linear.inputs import Site

Group = Literal["embedding", "attention", "mlp", "norm", "head", "bias", "other"]


@dataclass(frozen=True, slots=True)
class Weight:
    """One parameter of a stock model."""

    name: str
    """As in `named_parameters()`."""

    group: Group
    """What it is; `bias` is that of a linear layer, a norm's own bias belongs to `norm`."""

    shape: tuple[int, ...]
    """As it is stored: `Conv1D` of GPT-2 stores (d_in, d_out)."""

    block: int | None
    """Number of the block that it is in; None outside the blocks."""

    target: bool
    """Whether `convert` takes it when no targets are named: the matrices of linear layers in blocks."""

    tied: bool
    """Whether it is the memory of an earlier weight, and so not counted again."""

    part: str
    """Group of the module that holds it, as `count_parameters` has it: a bias counts with its layer."""

    linear: bool = False
    """Whether it is the matrix of a linear layer, and so costs 2 operations an entry and token."""

    transposed: bool = False
    """Whether it is stored as (d_in, d_out)."""

    @property
    def module(self) -> str:
        """Name of the module that holds it."""
        return self.name.rpartition(".")[0]

    @property
    def numel(self) -> int:
        """Number of its entries."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def site(self) -> "Site":
        """The place of a linear matrix as `convert` sees it; GPT-2's `c_attn` has three parts."""
        from fallow.linear.inputs import Site  # with torch, which shapes alone can do without

        d_out, d_in = self.shape[::-1] if self.transposed else self.shape
        fused = self.module.endswith("c_attn") and d_out == 3 * d_in
        return Site(self.module, (d_out, d_in), (d_in,) * 3 if fused else (d_out,), self.transposed)


def weights_of(config: Mapping[str, Any]) -> tuple[Weight, ...]:
    """Every weight of the causal language model (of the masked one for BERT and RoBERTa), in model order.

    Args:
        config: values of a Hugging Face configuration, `model_type` first; absent ones have the family's defaults.

    Raises:
        UserError: an unknown family (names the nearest), a misspelt size, or sizes that contradict each other.

    >>> sum(w.numel for w in weights_of({"model_type": "gpt2"}) if not w.tied)
    124439808
    """
    values, sizes = complete(config), dimensions_of(config)
    return tuple(_WEIGHTS[sizes.family](values, sizes))


def linear_sites_of(weights: tuple[Weight, ...]) -> "dict[str, Site]":
    """Every linear layer by name, in model order, as `fallow.linear.linear_sites` finds them in a built model."""
    return {weight.module: weight.site for weight in weights if weight.linear}


_PARTS: dict[str, str] = {"embedding": "embeddings", "norm": "norms"}


def _weight(
    name: str, group: Group, shape: tuple[int, ...], block: int | None = None, *, part: str = "", **flags: bool
) -> Weight:
    linear = flags.get("linear", False)
    return Weight(
        name=name,
        group=group,
        shape=shape,
        block=block,
        target=linear and block is not None,
        tied=flags.get("tied", False),
        part=part or _PARTS.get(group, group),
        linear=linear,
        transposed=flags.get("transposed", False),
    )


def _linear(
    name: str,
    group: Group,
    shape: tuple[int, int],
    block: int | None = None,
    *,
    bias: bool = False,
    conv1d: bool = False,
    tied: bool = False,
) -> Iterator[Weight]:
    """A linear layer; `shape` is (d_out, d_in) whatever the orientation in storage."""
    stored = shape[::-1] if conv1d else shape
    yield _weight(f"{name}.weight", group, stored, block, linear=True, transposed=conv1d, tied=tied)
    if bias:
        yield _weight(f"{name}.bias", "bias", (shape[0],), block, part=group)


def _norm(name: str, size: int, block: int | None = None, *, bias: bool = True) -> Iterator[Weight]:
    for kind in ("weight", "bias") if bias else ("weight",):
        yield _weight(f"{name}.{kind}", "norm", (size,), block)


def _embedding(name: str, rows: int, size: int) -> Iterator[Weight]:
    yield _weight(f"{name}.weight", "embedding", (rows, size))


def _gpt2(values: dict[str, Any], d: Dimensions) -> Iterator[Weight]:
    yield from _embedding("transformer.wte", d.vocab, d.hidden)
    yield from _embedding("transformer.wpe", d.positions, d.hidden)
    for n in range(d.num_blocks):
        at = f"transformer.h.{n}"
        yield from _norm(f"{at}.ln_1", d.hidden, n)
        yield from _linear(f"{at}.attn.c_attn", "attention", (3 * d.hidden, d.hidden), n, bias=True, conv1d=True)
        yield from _linear(f"{at}.attn.c_proj", "attention", (d.hidden, d.hidden), n, bias=True, conv1d=True)
        yield from _norm(f"{at}.ln_2", d.hidden, n)
        yield from _linear(f"{at}.mlp.c_fc", "mlp", (d.inner, d.hidden), n, bias=True, conv1d=True)
        yield from _linear(f"{at}.mlp.c_proj", "mlp", (d.hidden, d.inner), n, bias=True, conv1d=True)
    yield from _norm("transformer.ln_f", d.hidden)
    yield from _linear("lm_head", "head", (d.vocab, d.hidden), tied=d.tied)


def _llama_like(values: dict[str, Any], d: Dimensions) -> Iterator[Weight]:
    """Llama, Mistral, Qwen2, Qwen3 and Gemma differ in biases and in norms of queries and keys."""
    attention_bias = bool(values["attention_bias"]) if d.family in ("llama", "qwen3", "gemma") else False
    qkv_bias, mlp_bias = attention_bias or d.family == "qwen2", bool(values["mlp_bias"]) and d.family == "llama"
    width, kv_width = d.heads * d.head_size, d.kv_heads * d.head_size
    yield from _embedding("model.embed_tokens", d.vocab, d.hidden)
    for n in range(d.num_blocks):
        at = f"model.layers.{n}"
        yield from _linear(f"{at}.self_attn.q_proj", "attention", (width, d.hidden), n, bias=qkv_bias)
        yield from _linear(f"{at}.self_attn.k_proj", "attention", (kv_width, d.hidden), n, bias=qkv_bias)
        yield from _linear(f"{at}.self_attn.v_proj", "attention", (kv_width, d.hidden), n, bias=qkv_bias)
        yield from _linear(f"{at}.self_attn.o_proj", "attention", (d.hidden, width), n, bias=attention_bias)
        if d.family == "qwen3":
            for name in ("q_norm", "k_norm"):
                yield from _norm(f"{at}.self_attn.{name}", d.head_size, n, bias=False)
        yield from _linear(f"{at}.mlp.gate_proj", "mlp", (d.inner, d.hidden), n, bias=mlp_bias)
        yield from _linear(f"{at}.mlp.up_proj", "mlp", (d.inner, d.hidden), n, bias=mlp_bias)
        yield from _linear(f"{at}.mlp.down_proj", "mlp", (d.hidden, d.inner), n, bias=mlp_bias)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield from _norm(f"{at}.{name}", d.hidden, n, bias=False)
    yield from _norm("model.norm", d.hidden, bias=False)
    yield from _linear("lm_head", "head", (d.vocab, d.hidden), tied=d.tied)


def _gpt_neox(values: dict[str, Any], d: Dimensions) -> Iterator[Weight]:
    bias = bool(values["attention_bias"])
    yield from _embedding("gpt_neox.embed_in", d.vocab, d.hidden)
    for n in range(d.num_blocks):
        at = f"gpt_neox.layers.{n}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield from _norm(f"{at}.{name}", d.hidden, n)
        yield from _linear(f"{at}.attention.query_key_value", "attention", (3 * d.hidden, d.hidden), n, bias=bias)
        yield from _linear(f"{at}.attention.dense", "attention", (d.hidden, d.hidden), n, bias=bias)
        yield from _linear(f"{at}.mlp.dense_h_to_4h", "mlp", (d.inner, d.hidden), n, bias=True)
        yield from _linear(f"{at}.mlp.dense_4h_to_h", "mlp", (d.hidden, d.inner), n, bias=True)
    yield from _norm("gpt_neox.final_layer_norm", d.hidden)
    yield from _linear("lm_head", "head", (d.vocab, d.hidden), tied=d.tied)


def _opt(values: dict[str, Any], d: Dimensions) -> Iterator[Weight]:
    bias, has_norms = bool(values["enable_bias"]), bool(values["layer_norm_elementwise_affine"])
    embedded = int(values["word_embed_proj_dim"] or d.hidden)
    yield from _embedding("model.decoder.embed_tokens", d.vocab, embedded)
    yield from _embedding("model.decoder.embed_positions", d.positions + 2, d.hidden)  # OPT begins to count at 2
    if embedded != d.hidden:
        yield from _linear("model.decoder.project_out", "other", (embedded, d.hidden))
        yield from _linear("model.decoder.project_in", "other", (d.hidden, embedded))
    if has_norms and values["do_layer_norm_before"] and not values["_remove_final_layer_norm"]:
        yield from _norm("model.decoder.final_layer_norm", d.hidden)
    for n in range(d.num_blocks):
        at = f"model.decoder.layers.{n}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from _linear(f"{at}.self_attn.{name}", "attention", (d.hidden, d.hidden), n, bias=bias)
        if has_norms:
            yield from _norm(f"{at}.self_attn_layer_norm", d.hidden, n)
        yield from _linear(f"{at}.fc1", "mlp", (d.inner, d.hidden), n, bias=bias)
        yield from _linear(f"{at}.fc2", "mlp", (d.hidden, d.inner), n, bias=bias)
        if has_norms:
            yield from _norm(f"{at}.final_layer_norm", d.hidden, n)
    yield from _linear("lm_head", "head", (d.vocab, embedded), tied=d.tied)


def _bert(values: dict[str, Any], d: Dimensions) -> Iterator[Weight]:
    top = d.family
    embeddings = {
        "word_embeddings": d.vocab,
        "position_embeddings": d.positions,
        "token_type_embeddings": int(values["type_vocab_size"]),
    }
    order = ["word_embeddings", "token_type_embeddings"] if top == "roberta" else list(embeddings)
    for name in order:
        yield from _embedding(f"{top}.embeddings.{name}", embeddings[name], d.hidden)
    yield from _norm(f"{top}.embeddings.LayerNorm", d.hidden)
    if top == "roberta":
        yield from _embedding("roberta.embeddings.position_embeddings", d.positions, d.hidden)
    for n in range(d.num_blocks):
        at = f"{top}.encoder.layer.{n}"
        for name in ("query", "key", "value"):
            yield from _linear(f"{at}.attention.self.{name}", "attention", (d.hidden, d.hidden), n, bias=True)
        yield from _linear(f"{at}.attention.output.dense", "attention", (d.hidden, d.hidden), n, bias=True)
        yield from _norm(f"{at}.attention.output.LayerNorm", d.hidden, n)
        yield from _linear(f"{at}.intermediate.dense", "mlp", (d.inner, d.hidden), n, bias=True)
        yield from _linear(f"{at}.output.dense", "mlp", (d.hidden, d.inner), n, bias=True)
        yield from _norm(f"{at}.output.LayerNorm", d.hidden, n)
    head, transform = ("lm_head", "lm_head") if top == "roberta" else ("cls.predictions", "cls.predictions.transform")
    norm = "layer_norm" if top == "roberta" else "LayerNorm"
    yield _weight(f"{head}.bias", "bias", (d.vocab,), part="other")
    yield from _linear(f"{transform}.dense", "other", (d.hidden, d.hidden), bias=True)
    yield from _norm(f"{transform}.{norm}", d.hidden)
    yield from _linear(f"{head}.decoder", "head", (d.vocab, d.hidden), tied=d.tied)
    yield _weight(f"{head}.decoder.bias", "bias", (d.vocab,), part="head", tied=d.tied)


_WEIGHTS: dict[str, Callable[[dict[str, Any], Dimensions], Iterator[Weight]]] = {
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    "bert": _bert,
    "roberta": _bert,
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma"), _llama_like),
}
assert _WEIGHTS.keys() == FAMILIES.keys()
