"""Writing fp32 numbers into bfloat16 without losing small changes: up or down at random, right on average.

Shapes: n = numbers.
"""

import torch
from torch import Tensor

from fallow.random import Key

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def noise(key: int, start: int, num: int, device: torch.device) -> Tensor:
    """`num` integers uniform in [0, 65536), from place `start` of the stream `key` on; int32.

    Four places share one 64-bit word: the finaliser of SplitMix64 of a counter. There is no state, so a place has the
    same number in every process, device and repetition, however a parameter is cut into shards or pieces.

    >>> noise(7, 0, 10, torch.device("cpu"))[3:].tolist() == noise(7, 3, 7, torch.device("cpu")).tolist()
    True
    """
    first, last = start // 4, (start + num + 3) // 4
    x = torch.arange(first, last, dtype=torch.int64, device=device)
    x.mul_(_signed(_GOLDEN)).add_(_signed(key))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= (x >> shift) & ((1 << (64 - shift)) - 1)  # a shift of signed numbers repeats the sign
        x *= _signed(factor)
    x ^= (x >> 31) & ((1 << 33) - 1)
    return x.view(torch.int16)[start - 4 * first :][:num].int() & 0xFFFF


def stream(seed: int, name: str) -> int:
    """The key of a parameter's stream."""
    return int(Key(seed, f"rounding/{name}").words(1)[0])


def at_step(key: int, step: int) -> int:
    """The key of a parameter's stream for one update."""
    x = (key + step * _GOLDEN) & _WORD
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _WORD
    return x ^ x >> 31


def round_stochastically(x_n: Tensor, noise_n: Tensor) -> Tensor:
    """bfloat16 numbers with mean x: a neighbour of x, each with the probability that makes it so.

        P(up) = (x - down) / (up - down)

    The lower 16 bits of an fp32 number are that probability times 65,536: adding 16 random bits carries into the upper
    half, which is the bfloat16, just so often. What a bfloat16 can hold exactly stays as it is.

    Args:
        x_n: fp32, finite.
        noise_n: uniform in [0, 65536), int32.
    """
    upper = (x_n.view(torch.int32) + noise_n) & -65536
    return upper.view(torch.float32).bfloat16()


def _signed(word: int) -> int:
    """An unsigned 64-bit word as torch's signed one."""
    return word - (1 << 64) if word >> 63 else word
