"""What autograd keeps from forward to backward, by part, counted from the structure of a model.

Written from what the models of transformers save with fused attention (`sdpa`), which never stores the T x T scores.
Symbols: h = width, f = width inside the MLP, q and k = widths of queries and of keys, V = vocabulary.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from torch import nn

from fallow.accounting.anatomy import LinearLayer, parts, sees_one_position, text_config
from fallow.accounting.planned import PlannedModel
from fallow.linear.inputs import block_names
from fallow.linear.paths import DENSE_PATHS
from fallow.linear.reparam import ReparamLinear

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


CHECKED = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gpt_neox", "opt", "bert", "roberta")
"""Model types whose counts were compared with what autograd saves. Others are counted by the same rules."""


def count_activations(
    planned: PlannedModel,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    device: Literal["cpu", "cuda"] = "cuda",
    context: int = 0,
    gathered: bool = False,
) -> Activations:
    """Count what is saved for backward in one forward pass in training mode, with the loss on top.

    Args:
        planned: the model.
        precision: `bf16` is autocast: matrices and attention in bfloat16, the stream between blocks and the norms in
            fp32.
        device: on a CPU dropout masks are numbers instead of bytes, and attention with dropout keeps its scores.
        context: positions; matters only for the scores just mentioned.
        gathered: the weights come in bfloat16 already (FSDP2 with mixed precision): autocast copies none, and the
            stream between the blocks is bfloat16 too.
    """
    narrow = 2 if precision == "bf16" else planned.element_bytes
    wide = narrow if gathered and precision == "bf16" else planned.element_bytes
    count = _Count(planned, wide, narrow, device, context)
    blocks = planned.sizes.num_blocks
    copied = outside = 0
    if narrow < planned.element_bytes and not gathered:
        inside = {layer.name for layer in planned.block_layers}
        copies = [(layer.name in inside, 2 * _copied(layer)) for layer in planned.layers]
        copied = sum(size for _, size in copies)
        outside = sum(size for is_inside, size in copies if not is_inside)
    return Activations(
        attention=blocks * count.attention(),
        mlp=blocks * count.mlp(),
        norms=blocks * count.block_norms() + count.last_norm(),
        dropout=blocks * count.block_dropout() + count.embedding_dropout(),
        ends=count.ends(),
        stream=blocks * wide * planned.sizes.hidden + count.last_norm() + count.embedding_dropout(),
        head_copies=outside,
        weight_copies=copied,
    )


@dataclass(frozen=True)
class _Count:
    """Bytes a token of one block and of the ends."""

    planned: PlannedModel
    wide: int
    """Bytes of a number between the blocks."""

    narrow: int
    """Bytes of a number inside matrix products."""

    device: str
    context: int

    @cached_property
    def _norms(self) -> list[tuple[str, nn.Module]]:
        """Every norm by name, outside the blocks and in the first one."""
        names = block_names(self.planned.model)
        later = tuple(f"{name}." for name in names[1:])
        found = [(name, module) for name, module, group in parts(self.planned.model) if group == "norms"]
        return [(name, module) for name, module in found if not name.startswith(later)]

    @cached_property
    def _in_block(self) -> list[LinearLayer]:
        """The linear layers of the first block."""
        first = f"{block_names(self.planned.model)[0]}."
        return [layer for layer in self.planned.layers if layer.name.startswith(first)]

    def _is_inside(self, name: str) -> bool:
        return name.startswith(f"{block_names(self.planned.model)[0]}.")

    @property
    def _is_rms(self) -> bool:
        return any("rms" in type(module).__name__.lower() for _, module in self._norms)

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
        values = (getattr(text_config(self.planned.model), key, None) for key in keys)
        return next((value for value in values if value is not None), 0)

    def attention(self) -> float:
        s = self.planned.sizes
        queries, keys = s.heads * s.head_size, s.kv_heads * s.head_size
        layers = [layer for layer in self._in_block if layer.group == "attention"]  # the last one reads their output
        # GPT-NeoX: rotary angles make new Q and K, fused QKV stays whole because V is a view of it, and the output is
        # copied because its layout follows theirs.
        kept = 6 * queries if s.model_type == "gpt_neox" else queries + 2 * keys
        total = self._input(s.hidden, max(len(layers) - 1, 1)) + self.narrow * (kept + queries) + 4 * s.heads
        if self.device == "cpu" and self._get("attn_pdrop", "attention_dropout", "attention_probs_dropout_prob"):
            # The plain path, in fp32: probabilities, mask and their product, T numbers each for every head.
            total += 12 * s.heads * self.context + (6 * queries if self._copies else 0)
        return total

    def mlp(self) -> float:
        """Gated where two layers, or one of twice the width, read the stream. Of experts, those that a token meets."""
        s = self.planned.sizes
        layers = [layer for layer in self._in_block if layer.group == "mlp"]
        readers, inner_width, times = max(len(layers) - 1, 1), s.inner, 1
        gated = readers > 1 or any(layer.shape[0] == 2 * s.inner for layer in layers)
        if not layers:  # experts as tensors of three dimensions, which are gated
            gated, times = True, int(self._get("num_experts_per_tok") or 1)
            inner_width = int(self._get("moe_intermediate_size", "intermediate_size") or s.inner)
        kind = str(self._get("hidden_act", "activation_function"))
        if gated:
            inner = 4 if kind in _KEEPS_INPUT else 3 + _GELU_NEW
        else:
            inner = 1 if kind == "relu" else 2 if kind in _KEEPS_INPUT else 1 + _GELU_NEW
        return times * (self._input(s.hidden, readers) + self.narrow * inner * inner_width)

    def _layer_norm(self, width: int) -> float:
        return self._norm_bytes * width + 8

    def _rms_norm(self, width: int, source: int) -> float:
        """Written out in Python: the input in fp32, its scale, and the scaled input in the input's own type."""
        return 4 * width + 4 + source * width

    def _norm(self, width: int) -> float:
        return self._rms_norm(width, self.wide) if self._is_rms else self._layer_norm(width)

    def block_norms(self) -> float:
        s = self.planned.sizes
        total = 0.0
        for name, module in self._norms:
            if not self._is_inside(name):
                continue
            width = _width_of(module, s.hidden)
            if width == s.head_size and width != s.hidden:  # of queries or of keys, head by head
                heads = s.kv_heads if ".k_" in name else s.heads
                total += heads * self._rms_norm(width, self.narrow)
            else:
                total += self._norm(width)
        if s.model_type == "gpt_neox" and self._get("use_parallel_residual") is not False:
            total += 8 - self._layer_norm(s.hidden)  # both norms read the same tensor
        return total

    def last_norm(self) -> float:
        """Of the norms outside the blocks the one on the stream: after them, or in BERT before them."""
        outside = [name for name, _ in self._norms if not self._is_inside(name)]
        return self._norm(self.planned.sizes.hidden) if outside else 0.0

    def _mask(self, width: int, size: int, rate: float) -> float:
        return (size if self.device == "cpu" else 1) * width if rate else 0.0

    def block_dropout(self) -> float:
        rate = float(self._get("resid_pdrop", "dropout", "hidden_dropout_prob", "hidden_dropout"))
        return 2 * self._mask(self.planned.sizes.hidden, self.narrow, rate)

    def embedding_dropout(self) -> float:
        rate = float(self._get("embd_pdrop", "hidden_dropout_prob", "hidden_dropout"))
        return self._mask(self.planned.sizes.hidden, self.wide, rate)

    def ends(self) -> float:
        """Ids and labels, what the head reads, log-probabilities; layers between the blocks and the head."""
        s = self.planned.sizes
        total = 16.0 + 4 * s.vocab
        for layer in self.planned.layers:
            if layer.group == "head":
                total += self._input(layer.shape[1], 1)
            elif layer.group == "other" and not sees_one_position(layer.name):
                total += self._input(layer.shape[1], 1)
                if layer.shape == (s.hidden, s.hidden):  # before BERT's head: a dense layer, gelu and a norm
                    total += 2 * self.narrow * s.hidden + 8
        return total


def _width_of(norm: nn.Module, width: int) -> int:
    """Entries that a norm averages over; `width` where it has no weight that says so."""
    weight = getattr(norm, "weight", None)
    return width if weight is None else int(weight.numel())


def _copied(layer: LinearLayer) -> int:
    """Entries of a matrix that are copied to bfloat16 and kept."""
    module = layer.module
    if not isinstance(module, ReparamLinear) or (module.terms.low_rank is None and module.terms.sparse is None):
        return layer.size
    if module.path in DENSE_PATHS:
        return 0
    factors = 0 if module.terms.low_rank is None else module.terms.low_rank.num_entries(module.site.shape)
    return factors + (0 if module.terms.base is None else layer.size)
