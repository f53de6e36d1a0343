"""Counts from the shapes of a model: parameters, and operations of a forward pass."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fallow.accounting.anatomy import LinearLayer
from fallow.accounting.planned import PlannedModel, Sizes, plan_model

TRAINING = 3
"""Forward and backward over forward."""


def num_parameters(config: Mapping[str, Any]) -> int:
    """All parameters, a tied head counted once.

    >>> num_parameters({"model_type": "gpt2"})
    124439808
    """
    return planned(config).parameters.positions


def sizes_of(config: Mapping[str, Any]) -> Sizes:
    """The sizes of a model."""
    return planned(config).sizes


def matrices(config: Mapping[str, Any]) -> list[LinearLayer]:
    """The matrices of the blocks' linear layers: what the methods act on."""
    return planned(config).block_layers


def planned(config: Mapping[str, Any]) -> PlannedModel:
    """The model on the meta device; made once for a configuration."""
    return _planned(json.dumps(config, sort_keys=True))


@cache
def _planned(config: str) -> PlannedModel:
    return plan_model(json.loads(config))


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
    sizes = sizes_of(config)
    heads = sizes.num_blocks * sizes.heads
    return Forward(
        linear=2 * (1 - sparsity) * sum(layer.size for layer in matrices(config)),
        attention=4 * heads * sizes.head_size * context,
        softmax=3 * heads * context,
        vocab=2 * sizes.vocab * sizes.hidden,
    )
