"""Counts from the shapes of a model: parameters, and operations of a forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fallow.accounting.dimensions import dimensions_of
from fallow.accounting.shapes import Weight, weights_of

TRAINING = 3
"""Forward and backward over forward."""


def num_parameters(config: Mapping[str, Any]) -> int:
    """All parameters, a tied head counted once.

    >>> num_parameters({"model_type": "gpt2"})
    124439808
    """
    return sum(weight.numel for weight in weights_of(config) if not weight.tied)


def matrices(config: Mapping[str, Any]) -> tuple[Weight, ...]:
    """The matrices of the blocks' linear layers: what the methods act on."""
    return tuple(weight for weight in weights_of(config) if weight.target)


@dataclass(frozen=True, kw_only=True, slots=True)
class Forward:
    """Operations of a forward pass per token, a multiplication and an addition counted as two."""

    linear: float
    """2 x entries that exist, over the blocks' linear layers."""

    attention: float
    """4 L (heads x head size) T: scores and values; half of that where only the causal half is computed."""

    softmax: float
    """3 L H T."""

    vocab: float
    """2 V d: the logits. The input embedding is a look-up and free."""

    @property
    def total(self) -> float:
        """The sum."""
        return self.linear + self.attention + self.softmax + self.vocab


def forward(config: Mapping[str, Any], context: int, *, sparsity: float = 0.0) -> Forward:
    r"""Count a forward pass per token.

        linear = 2 (1 - s) sum of the sizes of the blocks' matrices,   attention = 4 L H h T,   softmax = 3 L H T,
        vocab  = 2 V d

    Args:
        config: a Hugging Face configuration.
        context: positions T; sequences are taken as full and every position as attending to all T.
        sparsity: s, of every matrix of the blocks.
    """
    sizes = dimensions_of(config)
    heads = sizes.num_blocks * sizes.heads
    return Forward(
        linear=2 * (1 - sparsity) * sum(weight.numel for weight in matrices(config)),
        attention=4 * heads * sizes.head_size * context,
        softmax=3 * heads * context,
        vocab=2 * sum(weight.numel for weight in weights_of(config) if weight.group == "head" and weight.linear),
    )
