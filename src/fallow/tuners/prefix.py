"""Trained keys and values before those of the tokens, in every block of a frozen model.

Shapes: n = sequences, h = heads of keys, p = virtual tokens, t = tokens, d = width of a head.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.linear.cut import HEADS
from fallow.tuners.extra import peft

NAME = "prefix"
"""Attribute of a model that holds its `Prefix`."""

_FULL = "full_attention"


class Prefix(nn.Module):
    """The encoder of PEFT's prefix tuning, and the hook that hands its keys and values to the blocks.

    Args:
        config: PEFT's `PrefixTuningConfig`, complete.
        encoder: PEFT's `PrefixEncoder`; its output for virtual token i holds the keys and values of all blocks.
    """

    def __init__(self, config: Any, encoder: nn.Module) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder

    @property
    def length(self) -> int:
        """Virtual tokens."""
        return int(self.config.num_virtual_tokens)

    def keys_values(self, n: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each block, (n, h, p, d) each."""
        device = next(self.encoder.parameters()).device
        flat = self.encoder(torch.arange(self.length, device=device)[None]).to(dtype)
        heads = self.config.num_attention_heads
        blocks = flat.view(self.length, self.config.num_layers, 2, heads, -1).permute(1, 2, 3, 0, 4)
        return [(block[0].expand(n, -1, -1, -1), block[1].expand(n, -1, -1, -1)) for block in blocks]

    def insert(
        self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[()], dict[str, Any]]:
        """A forward pre-hook of the blocks' stack: the prefix stands before what it is called with.

        A cache that has seen nothing yet gets the prefix first; one that has, holds it. Positions of tokens begin
        behind the prefix, as in PEFT.
        """
        from fallow.tuners.cache import cache_argument, filled, passing

        named = dict(zip(inspect.signature(body.forward).parameters, args, strict=False)) | kwargs
        tokens = named["input_ids"] if named.get("input_ids") is not None else named["inputs_embeds"]
        name, config = cache_argument(body), getattr(body, "config", None)
        if "past_key_values" in named:  # what a caller may still write where the name is another one
            named[name] = named.pop("past_key_values")
        cache = named.get(name)
        wants = getattr(config, "use_cache", False) if named.get("use_cache") is None else named["use_cache"]
        if cache is None and (torch.is_grad_enabled() or not wants):
            named[name] = passing(self._for(tokens, body))
        elif cache is None or not cache.get_seq_length():
            named[name] = filled(cache, self._for(tokens, body))
        if (mask := named.get("attention_mask")) is not None:
            if not isinstance(mask, Tensor) or mask.ndim != 2:
                raise UserError("a prefix needs an attention mask of two dimensions: (sequences, tokens)")
            named["attention_mask"] = torch.cat((mask.new_ones(len(mask), self.length), mask), dim=1)
        if named.get("position_ids") is not None:
            named["position_ids"] = named["position_ids"] + self.length
        return (), named

    def _for(self, tokens: Tensor, body: nn.Module) -> list[tuple[Tensor, Tensor]]:
        kind = tokens.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else next(body.parameters()).dtype
        return self.keys_values(len(tokens), dtype)


def attach_prefix(model: nn.Module, *, tokens: int, hidden: int) -> Prefix:
    """Put a fresh prefix on a Hugging Face model, drawn by torch's generator.

    Args:
        model: stock, with attention to all earlier tokens in every block.
        tokens: virtual tokens.
        hidden: width of the network that the prefix comes from in training; 0 for a prefix that is trained itself.

    Raises:
        UserError: PEFT is missing, or a model whose blocks do not all take a prefix.
    """
    library, stock = peft(), _checked(model)
    config: Any = stock.config
    queries = int(config.num_attention_heads)
    heads = int(getattr(config, "num_key_value_heads", None) or queries)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // queries)
    settings = library.PrefixTuningConfig(
        task_type="CAUSAL_LM" if stock.can_generate() else "SEQ_CLS",
        num_virtual_tokens=tokens,
        token_dim=heads * width,
        num_attention_heads=heads,
        num_layers=int(config.num_hidden_layers),
        num_transformer_submodules=1,
        prefix_projection=hidden > 0,
        encoder_hidden_size=hidden or None,
    )
    reference = next(model.parameters())
    with torch.device(reference.device):
        prefix = Prefix(settings, library.PrefixEncoder(settings))
    model.add_module(NAME, prefix)
    _body(stock).register_forward_pre_hook(prefix.insert, with_kwargs=True)
    return prefix


def prefix_of(model: nn.Module) -> Prefix | None:
    """The prefix of a model, if it has one."""
    found = getattr(model, NAME, None)
    return found if isinstance(found, Prefix) else None


def _checked(model: Any) -> Any:
    config = getattr(model, "config", None)
    if config is None or getattr(model, "base_model", model) is model or config.is_encoder_decoder:
        raise UserError(f"a prefix needs a decoder or encoder of transformers with a head, not {type(model).__name__}")
    body = _body(model)
    from fallow.tuners.cache import cache_argument

    if not cache_argument(body):
        raise UserError(f"a prefix needs blocks that take earlier keys and values; {type(body).__name__} does not")
    if set(getattr(config, "layer_types", None) or [_FULL]) != {_FULL} or getattr(config, "sliding_window", None):
        raise UserError(f"a prefix needs attention to all earlier tokens; {type(model).__name__} looks at a window")
    if getattr(model, HEADS, None):
        raise UserError("a prefix needs as many heads in every block, but heads were cut out of this model")
    return model


def _body(model: Any) -> nn.Module:
    """What the head calls: the stack of blocks with the embeddings, which OPT has one level deeper."""
    body: nn.Module = getattr(model.base_model, "decoder", model.base_model)
    return body
