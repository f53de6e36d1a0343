"""The parts of a Hugging Face model, found by structure: blocks, attention, MLP, norms, embeddings, head."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from fallow.errors import UserError, first_line
from fallow.linear.inputs import block_names, is_linear, site_of
from fallow.linear.reparam import ReparamLinear
from fallow.tuners.prefix import NAME as PREFIX

GROUPS = ("embeddings", "attention", "mlp", "norms", "head", "other")
"""Where a parameter can belong; `attention` and `mlp` are inside the blocks, `other` is whatever is left."""

_ONE_POSITION = ("pooler", "classifier", "score", PREFIX)


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """A linear layer of a model, stock or reparametrised."""

    name: str
    module: nn.Module
    group: str

    shape: tuple[int, int]
    """(d_out, d_in)"""

    @property
    def size(self) -> int:
        """The product d_out * d_in."""
        return self.shape[0] * self.shape[1]

    @property
    def converted(self) -> bool:
        """Whether fallow reparametrised it."""
        return isinstance(self.module, ReparamLinear)


def parts(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Every module with its dotted name and its group.

    Norms and embeddings are told by their class, the head by `get_output_embeddings`, attention by a name between block
    and layer that contains "attn" or "attention"; the rest of a block is its MLP.
    """
    head = output_head(model)
    prefixes = tuple(f"{name}." for name in block_names(model))
    for name, module in model.named_modules():
        yield name, module, _group(name, module, head, prefixes)


def linear_layers(model: nn.Module) -> list[LinearLayer]:
    """Every linear layer in model order."""
    found = []
    for name, module, group in parts(model):
        if isinstance(module, ReparamLinear):
            found.append(LinearLayer(name, module, group, module.site.shape))
        elif is_linear(module):
            found.append(LinearLayer(name, module, group, site_of(name, module).shape))
    return found


def sees_one_position(name: str) -> bool:
    """Whether a layer is applied once a sequence or more rarely, not at every token: poolers, classifiers, a prefix."""
    return any(word in part for part in name.split(".") for word in _ONE_POSITION)


def text_config(model: nn.Module) -> Any:
    """The configuration of the language model: the model's own, or that of the text part where it has others beside."""
    config: Any = getattr(model, "config", None)
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def size_named(model: nn.Module, name: str) -> int | None:
    """A size in the configuration of a language model; None where there is none of this name.

    Raises:
        UserError: it differs from layer to layer.
    """
    try:
        value = getattr(text_config(model), name, None)
    except Exception as error:  # transformers has a kind of its own for sizes that a layer has
        raise UserError(f"{type(model).__name__} has no one {name}: {first_line(error)}") from error
    return value if isinstance(value, int) else None


def output_head(model: nn.Module) -> nn.Module | None:
    """The layer that gives the logits over the vocabulary, if the model has one."""
    get: Any = getattr(model, "get_output_embeddings", None)
    head = get() if get is not None else None
    return head if isinstance(head, nn.Module) else None


def _group(name: str, module: nn.Module, head: nn.Module | None, prefixes: tuple[str, ...]) -> str:
    if isinstance(module, nn.Embedding):
        return "embeddings"
    if "norm" in type(module).__name__.lower():
        return "norms"
    if module is head:
        return "head"
    inside = next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), "")
    if not inside:
        return "other"
    attention = any(word in part for part in inside.lower().split(".") for word in ("attn", "attention"))
    return "attention" if attention else "mlp"
