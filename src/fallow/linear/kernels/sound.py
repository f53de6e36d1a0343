"""What was found out about the tensors of a support, remembered for as long as they are what they were.

The kernels walk a support without a look at each index, so it must be sound before they see it: row pointers that
ascend from 0 to the number of entries, columns that ascend in each row and lie inside the matrix. To find that out
takes longer than a product with one token, so it is done once for a support, not once for a call.
"""

from collections.abc import Hashable
from typing import Any
from weakref import ref

import torch
from torch import Tensor

_State = tuple[Any, int, int, int]
"""Weak reference, version, address, number of elements."""

_known: dict[Hashable, tuple[Any, list[_State]]] = {}
"""Facts and the states of the tensors that they are about, by what was asked and the identities of these tensors."""


def recall(about: Hashable, tensors: tuple[Tensor, ...]) -> Any:
    """What was kept about tensors by `remember`; None where one of them was changed, moved or replaced since.

    A change is noticed by torch's version counter, so one that goes past torch (through `.data` or a NumPy array that
    shares the memory) is not; such a tensor must be replaced by a new one.
    """
    known = _known.get((about, *map(id, tensors)))
    if known is None:
        return None
    for tensor, (reference, version, address, size) in zip(tensors, known[1], strict=True):
        same = reference() is tensor and tensor._version == version and tensor.data_ptr() == address
        if not same or tensor.numel() != size:
            return None
    return known[0]


def remember(about: Hashable, tensors: tuple[Tensor, ...], fact: object) -> None:
    """Keep a fact that is not None for `recall`.

    Args:
        about: what the fact depends on beside the tensors.
        tensors: with values.
        fact: holds none of the tensors, which could not go away then.
    """
    if any(map(torch.is_inference, tensors)):  # without a version counter a change of theirs would not be noticed
        return
    key = (about, *map(id, tensors))

    def forget(_: object) -> None:
        _known.pop(key, None)

    _known[key] = fact, [(ref(t, forget), t._version, t.data_ptr(), t.numel()) for t in tensors]


def changeable(tensor: Tensor) -> Tensor:
    """The same numbers in a tensor that has a version counter, which one made in inference mode has not."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()
