"""The model that a stage will train, on the meta device: its stored tensors, layers and sizes, without memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from fallow.accounting.anatomy import LinearLayer, linear_layers, output_head, parts, size_named, text_config
from fallow.accounting.flops import Flops, count_flops
from fallow.accounting.parameters import Parameters, count_parameters
from fallow.conversion import convert
from fallow.errors import UserError, first_line
from fallow.folder import build
from fallow.linear.inputs import block_names
from fallow.linear.planner import index_bytes
from fallow.linear.reparam import ReparamLinear
from fallow.methods import Method
from fallow.methods.base import auxiliary_names
from fallow.methods.dense import Dense

Build = Callable[[dict[str, Any]], nn.Module]
"""Makes a stock model from the values of a Hugging Face configuration."""

_SPECIAL_TOKENS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
"""Ids that a recipe takes from its tokenizer. They change no size, and defaults may lie outside a small vocabulary."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A parameter of the converted model."""

    name: str
    shape: tuple[int, ...]
    group: str
    """As in `count_parameters`."""

    block: int | None
    """Number of the block that it is in; None outside the blocks."""

    trainable: bool = True

    is_whole: bool = False
    """Whether every process holds all of it, as of gates: what has a learning rate of its own is not sharded."""

    @property
    def numel(self) -> int:
        """Number of its entries."""
        size = 1
        for length in self.shape:
            size *= length
        return size


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Sizes of a transformer, from its configuration and its layers."""

    model_type: str
    num_blocks: int
    hidden: int
    """Width of the residual stream."""

    heads: int
    kv_heads: int
    """Heads of keys and values; fewer than `heads` under grouped queries."""

    head_size: int
    inner: int
    """Width inside the MLP: what its last linear layer reads."""

    vocab: int
    """Rows of the head over the vocabulary; 0 without one (a classifier)."""

    tied: bool
    """Whether the head shares the memory of the embedding."""


class PlannedModel:
    """What `build` and `convert` make of a configuration and a method, with sizes and without values.

    Args:
        model: converted, on the meta device.
        method: that it was converted by.
        device: type of the device that will compute.
    """

    def __init__(self, model: nn.Module, method: Method, device: str = "cuda") -> None:
        self.model, self.method, self.device = model, method, device

    @property
    def config(self) -> Any:
        """The model's configuration, with the defaults of its type."""
        return self.model.config

    @cached_property
    def tensors(self) -> tuple[StoredTensor, ...]:
        """Every stored parameter in model order, a shared one once."""
        groups = {name: group for name, _, group in parts(self.model)}
        numbers = {name: number for number, name in enumerate(block_names(self.model))}
        own = auxiliary_names(self.method, self.model)
        found = []
        for name, parameter in self.model.named_parameters():
            block = next((number for at, number in numbers.items() if name.startswith(f"{at}.")), None)
            group = groups[name.rpartition(".")[0]]
            found.append(StoredTensor(name, tuple(parameter.shape), group, block, parameter.requires_grad, name in own))
        return tuple(found)

    @cached_property
    def layers(self) -> tuple[LinearLayer, ...]:
        """Every linear layer in model order."""
        return tuple(linear_layers(self.model))

    @property
    def converted(self) -> tuple[ReparamLinear, ...]:
        """The layers that the method changes."""
        return tuple(module for module in self.model.modules() if isinstance(module, ReparamLinear))

    @property
    def path_name(self) -> str:
        """The path of the converted layers; "stock layers" without any."""
        return next((layer.path for layer in self.converted), "stock layers")

    @property
    def element_bytes(self) -> int:
        """Bytes of one stored number."""
        return next(self.model.parameters()).element_size()

    @property
    def index_bytes(self) -> int:
        """Bytes of all supports, and of what paths derive from them and keep."""
        return sum(index_bytes(la.terms, la.site.shape, la.path, self.device) for la in self.converted)

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes that memory depends on."""
        return sizes_of(self.model)

    @property
    def sparsity(self) -> float:
        """Share of the entries of the blocks' linear layers that do not exist; 0 for a dense model."""
        blocks = self.block_layers
        exist = sum(la.module.nnz if isinstance(la.module, ReparamLinear) else la.size for la in blocks)
        return 1 - exist / sum(layer.size for layer in blocks)

    @property
    def block_layers(self) -> list[LinearLayer]:
        """The linear layers of the blocks."""
        return [layer for layer in self.layers if layer.group in ("attention", "mlp")]

    @cached_property
    def parameters(self) -> Parameters:
        """Counts by group."""
        return count_parameters(self.model)

    def flops(self, context: int) -> Flops:
        """Operations a token at a context length."""
        return count_flops(self.model, context)


def plan_model(
    config: Mapping[str, Any],
    method: Method | None = None,
    *,
    targets: Sequence[str] = (),
    seed: int = 0,
    path: str = "",
    device: str = "cuda",
    build: Build = build,
) -> PlannedModel:
    """The model of this configuration, converted by this method, on the meta device.

    Args:
        config: values of a Hugging Face configuration with `model_type`; absent ones have the defaults of transformers.
        method: any method; by default the model stays as it is.
        targets: as in `convert`.
        seed: changes no size; random draws are named by it, not made.
        path: how the layers would be computed; empty for the usual path of each.
        device: type of the device that would compute them; a GPU can be planned for where there is none.
        build: makes the stock model; by default a causal language model.

    Raises:
        UserError: an unknown model type or value, a model that cannot be built without memory, targets that match
            nothing, a support that does not fit a shape, or a path that does not fit a layer.

    >>> plan_model({"model_type": "gpt2"}).parameters.positions
    124439808
    """
    model = meta_model(config, build)
    return converted(model, method or Dense(), targets=targets, seed=seed, path=path, device=device)


def converted(
    model: nn.Module, method: Method, *, targets: Sequence[str], seed: int, path: str, device: str
) -> PlannedModel:
    """A model on meta converted by a method; the arguments and errors are those of `plan_model`."""
    convert(model, method, targets=targets, seed=seed, path=path, device=device)
    return PlannedModel(model, method, device)


def meta_model(config: Mapping[str, Any], build: Build = build) -> nn.Module:
    """A stock model of this configuration on the meta device.

    Raises:
        UserError: an unknown model type or value, or model code that needs real memory.
    """
    values = {**_SPECIAL_TOKENS, **config}
    try:
        with torch.device("meta"):
            return build(values)
    except UserError:
        raise
    except Exception as error:  # model code of transformers raises many kinds
        raise UserError(
            f"a model of type {config.get('model_type')} cannot be built without memory: {first_line(error)}. Check "
            "its configuration, or look with fallow run --dry-run"
        ) from error


def sizes_of(model: Any) -> Sizes:
    """The sizes of a transformer.

    Raises:
        UserError: its configuration names no heads or layers.
    """
    heads, hidden = size_named(model, "num_attention_heads"), size_named(model, "hidden_size")
    if not heads or not hidden:
        raise UserError(
            f"the sizes of {type(model).__name__} are not known: its configuration names no num_attention_heads or "
            "hidden_size"
        )
    mlp = [layer for layer in linear_layers(model) if layer.group == "mlp"]
    head, embedding = output_head(model), model.get_input_embeddings()
    rows = None if head is None else getattr(head, "weight", None)
    return Sizes(
        model_type=str(text_config(model).model_type),
        num_blocks=len(block_names(model)),
        hidden=hidden,
        heads=heads,
        kv_heads=size_named(model, "num_key_value_heads") or heads,
        head_size=size_named(model, "head_dim") or hidden // heads,
        inner=mlp[-1].shape[1] if mlp else size_named(model, "intermediate_size") or 4 * hidden,
        vocab=0 if rows is None else int(rows.shape[0]),
        tied=rows is not None and rows is getattr(embedding, "weight", None),
    )
