"""Numbers in a byte: blocks with a scale each, and 256 values that are close together near zero.

Shapes: n = numbers, b = blocks, k = numbers in a block.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

DECADES = 7


@functools.cache
def dynamic_map(*, signed: bool) -> Tensor:
    """The 256 values that a code can mean, ascending, fp32, between -1 (or 0) and 1.

    Decade number d = 0..6 spans 10^(d-7) to 10^(d-6) and is cut into 2^d equal intervals (2^(d+1) without a sign),
    whose middles are values; so is each of their negatives, 0, and 1. The nearest value is at most 0.0071 away
    (0.0036), and at most 7% (4%) from a number above 0.1.

    Source: Dettmers et al., 2022, arXiv 2110.02861, section 1.3 and appendix; equal to the map of bitsandbytes.

    >>> dynamic_map(signed=True)[[0, 127, 255]].tolist()
    [-0.992968738079071, 0.0, 1.0]
    """
    middles = []
    for decade in range(DECADES):
        num = 2 ** (decade + (0 if signed else 1))
        edges = torch.linspace(0.1, 1.0, num + 1, dtype=torch.float64)
        middles.append((edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - DECADES + 1))
    positive = torch.cat(middles)
    values = [-positive] * signed + [positive, torch.tensor([0.0, 1.0], dtype=torch.float64)]
    return torch.cat(values).sort().values.float()


class _Tables(NamedTuple):
    values: Tensor
    borders: Tensor
    """borders[c] is the middle between value c and the next; infinite for the last."""

    codes: Tensor
    """For each of the 2^16 upper halves of a number's bits, the code of the lowest number that begins so."""


@functools.cache
def _tables(signed: bool, device: torch.device) -> _Tables:
    values = dynamic_map(signed=signed).double()
    borders = ((values[:-1] + values[1:]) / 2).float()
    upper = torch.arange(1 << 16, dtype=torch.int32)
    lowest = torch.where(upper < 1 << 15, upper << 16, (upper << 16) | 0xFFFF).view(torch.float32)
    codes = torch.bucketize(lowest.nan_to_num(), borders)
    borders = torch.cat([borders, torch.tensor([torch.inf])])
    return _Tables(values.float().to(device), borders.to(device), codes.to(torch.uint8).to(device))


def _nearest(x_n: Tensor, tables: _Tables) -> Tensor:
    """The code of the nearest value, for numbers between -1 and 1.

    The upper half of the bits says it but for one border, since borders lie further apart than numbers with the same
    upper half: two look-ups, which is several times faster than a binary search.
    """
    code_n = tables.codes[(x_n.view(torch.int32) >> 16) & 0xFFFF]
    return code_n + (x_n > tables.borders[code_n.int()])


def quantise(x_n: Tensor, block: int, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Codes (n,), uint8, and scales (b,), fp32, with b = ceil(n / block); the last block may be short.

        scale = max |x| of the block,    code = nearest value to x / scale

    Args:
        x_n: fp32; not negative when `signed` is false, and then a number above 0 never gets the code of 0.
        block: k, numbers that share a scale.
        signed: which map.
    """
    tables = _tables(signed, x_n.device)
    num = x_n.numel()
    x_bk = F.pad(x_n, (0, -num % block)).view(-1, block)
    scale_b = x_bk.abs().amax(1) if num else x_n.new_zeros(0)
    share_bk = x_bk / torch.where(scale_b > 0, scale_b, 1.0)[:, None]
    code_n = _nearest(share_bk.view(-1)[:num], tables)
    if not signed:
        code_n = torch.where(x_n > 0, code_n.clamp(min=1), code_n)
    return code_n, scale_b


def dequantise(code_n: Tensor, scale_b: Tensor, block: int, *, signed: bool) -> Tensor:
    """The numbers that codes and scales mean, (n,), fp32."""
    x_n = _tables(signed, code_n.device).values[code_n.int()]
    num = code_n.numel()
    whole = num - num % block
    x_n[:whole].view(-1, block).mul_(scale_b[: whole // block, None])
    if whole < num:
        x_n[whole:].mul_(scale_b[-1])
    return x_n
