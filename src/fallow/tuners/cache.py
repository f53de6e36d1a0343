"""Caches of transformers that begin with a prefix."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

Blocks = Sequence[tuple[Tensor, Tensor]]
"""Keys and values of the prefix in each block, (sequences, heads, virtual tokens, width of a head)."""


class PassingLayer(DynamicLayer):  # type: ignore[misc]
    """One block's prefix, which remembers no token: a block that is computed twice sees the same both times."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The prefix and what comes now."""
        keys, values = self.keys.to(key_states.dtype), self.values.to(value_states.dtype)
        return torch.cat((keys, key_states), dim=-2), torch.cat((values, value_states), dim=-2)


def cache_argument(module: Any) -> str:
    """Name of the argument by which a module of transformers takes earlier keys and values; empty where it takes none.

    It is `cache` from 5.24 on, and was `past_key_values` before.
    """
    known = inspect.signature(module.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in known), "")


def passing(prefix: Blocks) -> Cache:
    """The prefix for one pass, in training or without a cache."""
    return Cache(layers=[PassingLayer(keys, values) for keys, values in prefix])


def filled(cache: Any, prefix: Blocks) -> Any:
    """A cache of the caller's (or a new one) that has seen the prefix and nothing else."""
    cache = DynamicCache() if cache is None else cache
    for block, (keys, values) in enumerate(prefix):
        cache.update(keys, values, block)
    return cache
