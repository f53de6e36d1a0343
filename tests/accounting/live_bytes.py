"""Bytes of the tensors that are alive while something runs: the oracle of what a step takes at its peak."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from fallow.linear.kernels.structure import expected_bytes, expected_scratch, facts_of


def _inside(func: Any, args: Any) -> int:
    """Bytes that one of the compiled kernels allocates and frees again, which no tensor shows."""
    if func.namespace != "fallow" or not func._schema.name.startswith("fallow::sparse_linear"):
        return 0
    x, values, structure, pointers = args[:4] if func._schema.name == "fallow::sparse_linear" else args[1:5]
    shape = (pointers.shape[0] - 1, x.shape[1])
    if not structure.numel():  # derived inside, from a vector that is then copied
        return expected_scratch(shape, len(values), False, len(x)) + 2 * expected_bytes(shape, len(values), False)
    return expected_scratch(shape, len(values), facts_of(structure).shared, len(x))


class LiveBytes(TorchDispatchMode):
    """Counts storages that operations make, from their birth to their death; `peak` is the most at one moment."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {id(t.untyped_storage()) for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in known and id(storage) not in self.alive:
                    self._watch(storage)
        self.peak = max(self.peak, self.now + _inside(func, args))
        return result

    def _watch(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()

        def gone(_: Any) -> None:
            self.now -= size
            del self.alive[key]

        self.alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
