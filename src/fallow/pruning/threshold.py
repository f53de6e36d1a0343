"""The k-th smallest of many numbers that are never all in memory."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Scores = Callable[[], Iterable[Tensor]]
"""Gives the same tensors of numbers of at least 0 each time it is called."""

_BINS = 1 << 16


def kth_smallest(scores: Scores, k: int) -> tuple[float, int]:
    """The k-th smallest number (from 1), and how many numbers are smaller than it.

    Exact for fp32, in the memory of one tensor: numbers of at least 0 are ordered as their bit patterns are, so one
    histogram of the upper 16 bits says where the k-th lies, and another one of the lower 16 which it is.

    >>> kth_smallest(lambda: [torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])], 3)
    (2.0, 2)
    """
    upper, below = _bin_of(scores, k, lambda bits: bits >> 16)
    lower, more = _bin_of(scores, k - below, lambda bits: bits[bits >> 16 == upper] & (_BINS - 1))
    pattern = torch.tensor([upper << 16 | lower], dtype=torch.int32)
    return float(pattern.view(torch.float32)), below + more


def _bin_of(scores: Scores, k: int, part: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    """The bin that holds the k-th number, and how many are in the bins before it."""
    counts = torch.zeros(_BINS, dtype=torch.int64)
    for tensor in scores():
        bits = tensor.detach().float().contiguous().view(torch.int32).reshape(-1)
        counts += torch.bincount(part(bits), minlength=_BINS).cpu()
    sums = counts.cumsum(0)
    found = int((sums < k).sum())
    return found, int(sums[found - 1]) if found else 0
