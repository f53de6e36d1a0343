"""What autograd keeps from forward to backward, by part, counted from the sizes of a model.

Written from what the models of transformers save with fused attention (`sdpa`), which never stores the T x T scores.
Symbols: h = width, f = width inside the MLP, q and k = widths of queries and of keys, V = vocabulary.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from fallow.accounting.sketch import Layer, Sketch
from fallow.linear.paths import DENSE_PATHS

_KEEPS_INPUT = ("silu", "swish", "gelu", "gelu_pytorch_tanh", "gelu_python", "tanh", "sigmoid")
"""Activations that save one tensor: what goes in."""

_GELU_NEW = 4
"""`gelu_new` is six elementwise operations, of which four save a tensor of width f."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Activations:
    """Bytes a token that are kept for the backward pass, and bytes that do not depend on the tokens."""

    attention: float
    """Inputs of the projections, queries, keys, values, output: all blocks."""

    mlp: float
    """Inputs of the projections and of the activation: all blocks."""

    norms: float
    """Inputs and statistics: all blocks and the last norm."""

    dropout: float
    """Masks."""

    ends: float
    """Token ids, head and log-probabilities; V numbers for every token."""

    stream: float
    """Of these, what recomputing keeps beside the ends: inputs of the blocks, and what the last norm needs."""

    head_copies: int
    """Of the copies below, those outside the blocks."""

    weight_copies: int
    """Under bf16 on fp32 weights: the bfloat16 copies of stock matrices that autocast makes and backward needs. Once a
    forward pass, whatever the number of tokens."""

    @property
    def per_token(self) -> float:
        """Bytes for each token of a micro-batch."""
        return self.attention + self.mlp + self.norms + self.dropout + self.ends

    def total(self, num_tokens: int) -> int:
        """Bytes for a micro-batch."""
        return round(self.per_token * num_tokens) + self.weight_copies

    def inputs(self, num_tokens: int) -> int:
        """What is left when blocks keep their input alone: these inputs and the last norm's, for a micro-batch."""
        return round(self.stream * num_tokens) + self.head_copies

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {**asdict(self), "per_token": self.per_token}


def count_activations(
    sketch: Sketch,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    device: Literal["cpu", "cuda"] = "cuda",
    context: int = 0,
    gathered: bool = False,
) -> Activations:
    """Count what is saved for backward in one forward pass in training mode, with the loss on top.

    Args:
        sketch: the model.
        precision: `bf16` is autocast: matrices and attention in bfloat16, the stream between blocks and the norms in
            fp32.
        device: on a CPU dropout masks are numbers instead of bytes, and attention with dropout keeps its scores.
        context: positions; matters only for the scores just mentioned.
        gathered: the weights come in bfloat16 already (FSDP2 with mixed precision): autocast copies none, and the
            stream between the blocks is bfloat16 too.
    """
    narrow = 2 if precision == "bf16" else sketch.element_bytes
    wide = narrow if gathered and precision == "bf16" else sketch.element_bytes
    count = _Count(sketch, wide, narrow, device, context)
    blocks = sketch.sizes.num_blocks
    copied = outside = 0
    if narrow < sketch.element_bytes and not gathered:
        copies = [(layer.weight.block, 2 * _copied(layer, layer.path(sketch.path))) for layer in sketch.layers]
        copied, outside = sum(size for _, size in copies), sum(size for block, size in copies if block is None)
    return Activations(
        attention=blocks * count.attention(),
        mlp=blocks * count.mlp(),
        norms=blocks * count.block_norms() + count.last_norm(),
        dropout=blocks * count.block_dropout() + count.embedding_dropout(),
        ends=count.ends(),
        stream=blocks * wide * sketch.sizes.hidden + count.last_norm() + count.embedding_dropout(),
        head_copies=outside,
        weight_copies=copied,
    )


@dataclass(frozen=True, slots=True)
class _Count:
    """Bytes a token of one block and of the ends."""

    sketch: Sketch
    wide: int
    """Bytes of a number between the blocks."""

    narrow: int
    """Bytes of a number inside matrix products."""

    device: str
    context: int

    @property
    def _copies(self) -> bool:
        """Whether autocast makes a narrow copy of a norm's output for each layer that reads it."""
        return self.narrow < (self.wide if self._is_rms else self._norm_bytes)

    @property
    def _norm_bytes(self) -> int:
        """Layer norms take and give fp32 under autocast."""
        return max(4, self.wide)

    def _input(self, width: int, readers: int) -> float:
        """A tensor that several linear layers read: one for all, or a cast copy for each."""
        return self.narrow * width * (readers if self._copies else 1)

    def _get(self, *keys: str) -> Any:
        return next((self.sketch.values[key] for key in keys if key in self.sketch.values), 0)

    def attention(self) -> float:
        s, family = self.sketch.sizes, self.sketch.sizes.family
        queries, keys = s.heads * s.head_size, s.kv_heads * s.head_size
        readers = 1 if family in ("gpt2", "gpt_neox") else 3
        # GPT-NeoX: rotary angles make new Q and K, fused QKV stays whole because V is a view of it, and the output is
        # copied because its layout follows theirs.
        kept = 6 * queries if family == "gpt_neox" else queries + 2 * keys
        total = self._input(s.hidden, readers) + self.narrow * (kept + queries) + 4 * s.heads
        if self.device == "cpu" and self._get("attn_pdrop", "attention_dropout", "attention_probs_dropout_prob"):
            # The plain path, in fp32: probabilities, mask and their product, T numbers each for every head.
            total += 12 * s.heads * self.context + (6 * queries if self._copies else 0)
        return total

    def mlp(self) -> float:
        s = self.sketch.sizes
        gated = s.family in ("llama", "mistral", "qwen2", "qwen3", "gemma")
        kind = str(self._get("hidden_act", "activation_function"))
        if gated:
            inner = 4 if kind in _KEEPS_INPUT else 3 + _GELU_NEW
        else:
            inner = 1 if kind == "relu" else 2 if kind in _KEEPS_INPUT else 1 + _GELU_NEW
        return self._input(s.hidden, 2 if gated else 1) + self.narrow * inner * s.inner

    def _layer_norm(self, width: int) -> float:
        return self._norm_bytes * width + 8

    def _rms_norm(self, width: int, source: int) -> float:
        """Written out in Python: the input in fp32, its scale, and the scaled input in the input's own type."""
        return 4 * width + 4 + source * width

    @property
    def _is_rms(self) -> bool:
        return self.sketch.sizes.family in ("llama", "mistral", "qwen2", "qwen3", "gemma")

    def block_norms(self) -> float:
        s = self.sketch.sizes
        if self._is_rms:
            total = 2 * self._rms_norm(s.hidden, self.wide)
            if s.family == "qwen3":
                heads = s.heads + s.kv_heads
                total += heads * self._rms_norm(s.head_size, self.narrow)
            return total
        if s.family == "gpt_neox" and self._get("use_parallel_residual") is not False:
            return self._layer_norm(s.hidden) + 8  # both norms read the same tensor
        return 2 * self._layer_norm(s.hidden)

    def last_norm(self) -> float:
        s = self.sketch.sizes
        if s.family in ("bert", "roberta"):
            return self._layer_norm(s.hidden)  # of the embeddings
        if s.family == "opt" and not self._has_last_norm:
            return 0.0
        return self._rms_norm(s.hidden, self.wide) if self._is_rms else self._layer_norm(s.hidden)

    @property
    def _has_last_norm(self) -> bool:
        return any(weight.name == "model.decoder.final_layer_norm.weight" for weight in self.sketch.weights)

    def _mask(self, width: int, size: int, rate: float) -> float:
        return (size if self.device == "cpu" else 1) * width if rate else 0.0

    def block_dropout(self) -> float:
        rate = float(self._get("resid_pdrop", "dropout", "hidden_dropout_prob", "hidden_dropout"))
        return 2 * self._mask(self.sketch.sizes.hidden, self.narrow, rate)

    def embedding_dropout(self) -> float:
        rate = float(self._get("embd_pdrop", "hidden_dropout_prob", "hidden_dropout"))
        return self._mask(self.sketch.sizes.hidden, self.wide, rate)

    def ends(self) -> float:
        s = self.sketch.sizes
        head = next(layer for layer in self.sketch.layers if layer.weight.part == "head")
        total = 16 + self._input(head.site.shape[1], 1) + 4 * s.vocab
        if s.family in ("bert", "roberta"):  # a dense layer, gelu and a norm before the head
            total += self._input(s.hidden, 1) + 2 * self.narrow * s.hidden + 8
        for layer in self.sketch.layers:
            if layer.weight.part == "other" and s.family == "opt":
                total += self._input(layer.site.shape[1], 1)
        return total


def _copied(layer: Layer, path: str) -> int:
    """Entries of a matrix that are copied to bfloat16 and kept."""
    if layer.terms is None or (layer.terms.low_rank is None and layer.terms.sparse is None):
        return layer.size
    if path in DENSE_PATHS:
        return 0
    factors = 0 if layer.terms.low_rank is None else layer.terms.low_rank.num_entries(layer.site.shape)
    return factors + (0 if layer.terms.base is None else layer.size)
