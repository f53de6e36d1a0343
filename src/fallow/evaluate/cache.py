"""A key-value cache for beam search that moves what was generated, and leaves the prompt where it is.

Shapes: n = rows (prompts times beams), h = heads, t = positions, d = width of a head.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class BeamLayer(DynamicLayer):  # type: ignore[misc]
    """One layer: buffers with room for all that may be generated, filled in place.

    Two thirds of a search on a small model are otherwise spent on copies: transformers' layer is copied once to append
    a token and once more to follow the beams.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.prompt = room, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append (n, h, t, d) keys and values; gives all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.prompt = key_states.shape[-2]
            self.keys, self.values = self._grown(key_states), self._grown(value_states)
            return key_states, value_states
        start = self.keys.shape[-2]
        if key_states.shape[-2] > 1:  # a prompt behind a prefix
            self.prompt = start + key_states.shape[-2]
            self.keys, self.values = self._grown(self.keys), self._grown(self.values)
        self.keys, self.values = (
            self._extended(self.keys, start, key_states),
            self._extended(self.values, start, value_states),
        )
        return self.keys, self.values

    def follow(self, from_n: Tensor) -> None:
        """Row i goes on from row `from_n[i]`, which belongs to the same prompt: only generated positions differ."""
        for held_nhtd in (self.keys, self.values):
            generated_nhtd = held_nhtd[:, :, self.prompt :]
            generated_nhtd.copy_(generated_nhtd.index_select(0, from_n))

    def select(self, from_n: Tensor) -> None:
        """Other rows, or another number of them."""
        self.keys = self._grown(self.keys.index_select(0, from_n))
        self.values = self._grown(self.values.index_select(0, from_n))

    def _grown(self, states_nhtd: Tensor) -> Tensor:
        """The same numbers at the beginning of a buffer that is long enough for the whole text."""
        n, h, t, d = states_nhtd.shape
        buffer_nhtd = states_nhtd.new_empty(n, h, self.prompt + self.room, d)
        buffer_nhtd[:, :, :t] = states_nhtd
        return buffer_nhtd[:, :, :t]

    @staticmethod
    def _extended(held_nhtd: Tensor, start: int, new_nhtd: Tensor) -> Tensor:
        n, h, _, d = held_nhtd.shape
        end = start + new_nhtd.shape[-2]
        whole_nhtd = held_nhtd.as_strided((n, h, end, d), held_nhtd.stride(), held_nhtd.storage_offset())
        whole_nhtd[:, :, start:] = new_nhtd
        return whole_nhtd


def beam_cache(config: Any, room: int) -> DynamicCache:
    """A cache for a model of this configuration.

    Layers that look at a window only, or keep something else than keys and values, are transformers' own.

    Args:
        config: of the model.
        room: most tokens that are appended after the prompt.
    """
    cache = DynamicCache(config=config)
    cache.layers = [BeamLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def reorder(cache: DynamicCache, from_n: Tensor, *, same_prompts: bool) -> None:
    """Let row i go on from row `from_n[i]`.

    Args:
        cache: of `beam_cache`.
        from_n: a row for each row that is wanted.
        same_prompts: there are as many rows as before, and each goes on from one of its own prompt.
    """
    for layer in cache.layers:
        if isinstance(layer, BeamLayer) and layer.is_initialized:
            (layer.follow if same_prompts else layer.select)(from_n)
        else:
            layer.reorder_cache(from_n)
