"""Random numbers from a key and a counter: the same on every process, device and library version.

The generator is Philox4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3"). It has no state:
block number i of a key is a pure function of both, so that any part of a stream can be drawn at any time, anywhere.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 10
_CHUNK = 1 << 14
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Philox4x32-10: four random 32-bit words for each four-word counter.

    Args:
        counter: shape (n, 4); each row is one counter.
        key: two 32-bit words.

    Returns:
        Shape (n, 4). Equal to the known-answer vectors of the authors' Random123 library.
    """
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            product1 & _LOW,
            (product0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            product0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack((c0, c1, c2, c3), axis=1).astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Key:
    """The name of a random stream: a seed and the name of what the stream is for.

    >>> Key(0, "h.0.attn.c_attn").words(2).tolist() == Key(0, "h.0.attn.c_attn").words(2).tolist()
    True
    >>> Key(0, "a") == Key(0, "b")
    False
    """

    seed: int
    name: str = ""

    def child(self, name: object) -> "Key":
        """The key of a part: an independent stream."""
        return Key(self.seed, f"{self.name}/{name}")

    def _words_of_key(self) -> tuple[int, int]:
        digest = hashlib.blake2b(f"{self.seed}\0{self.name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")

    def words(self, num: int, start: int = 0) -> NDArray[np.uint64]:
        """`num` uniform 64-bit words, from word number `start` on."""
        first, last = start // 2, (start + num + 1) // 2
        key = self._words_of_key()
        joined = np.empty((last - first, 2), dtype=np.uint64)
        for begin in range(first, last, _CHUNK):  # in pieces that stay in the cache
            blocks = np.arange(begin, min(begin + _CHUNK, last), dtype=np.uint64)
            counter = np.zeros((len(blocks), 4), dtype=np.uint32)
            counter[:, 0], counter[:, 1] = blocks & _LOW, blocks >> _SHIFT
            words = philox(counter, key).view("<u8")
            joined[begin - first : begin - first + len(blocks)] = words
        return joined.reshape(-1)[start - 2 * first :][:num]

    def uniform(self, num: int, start: int = 0) -> NDArray[np.float64]:
        """`num` numbers uniform in [0, 1) with 53 random bits."""
        whole: NDArray[np.float64] = (self.words(num, start) >> np.uint64(11)).astype(np.float64)
        return whole * (1.0 / (1 << 53))

    def integers(self, num: int, bound: int, start: int = 0) -> NDArray[np.int64]:
        """`num` integers in [0, bound), independent draws.

        A 64-bit word times `bound`, its upper half: the deviation from uniform is below bound / 2**32, done in two
        32-bit steps so that nothing overflows; exact enough for bounds up to 2**40 (a weight matrix has fewer entries).
        """
        words = self.words(num, start)
        high, low = words >> _SHIFT, words & _LOW
        size = np.uint64(bound)
        if bound < 1 << 32:
            return ((high * size + ((low * size) >> _SHIFT)) >> _SHIFT).astype(np.int64)
        return (words % size).astype(np.int64)

    def normal(self, num: int) -> NDArray[np.float64]:
        """`num` standard normal numbers (Box-Muller)."""
        half = (num + 1) // 2
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(half)))
        angle = 2.0 * np.pi * self.uniform(half, start=half)
        return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:num]


def sample_without_replacement(key: Key, size: int, num: int) -> NDArray[np.int64]:
    """`num` different integers of range(size), every subset equally likely, sorted; O(num) memory.

    Draws a few more than needed, removes repeats by sorting, and removes the surplus, itself drawn uniformly. By
    symmetry what remains is a uniform subset. Above one half the complement is drawn.

    >>> len(set(sample_without_replacement(Key(0, "x"), 10, 7).tolist()))
    7
    """
    if not 0 <= num <= size:
        raise ValueError(f"cannot draw {num} different integers of {size}")
    if 2 * num > size:
        keep = np.ones(size, dtype=bool)
        keep[sample_without_replacement(key.child("complement"), size, size - num)] = False
        return np.flatnonzero(keep)
    if num <= 256:
        return _floyd(key, size, num)
    # Expected repeats of m draws are below m^2 / (2 size); the margin makes a second round rare.
    wanted = -size * np.log1p(-num / size)
    num_draws = int(wanted + 6.0 * np.sqrt(wanted)) + 16
    found = _sorted_distinct(key.integers(num_draws, size))
    while len(found) < num:
        more = key.integers(num_draws, size, start=num_draws)
        found, num_draws = _sorted_distinct(np.concatenate((found, more))), 2 * num_draws
    if len(found) > num:
        drop = sample_without_replacement(key.child("surplus"), len(found), len(found) - num)
        found = np.delete(found, drop)
    return found


def _sorted_distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    values = np.sort(values)
    return values[np.concatenate(([True], values[1:] != values[:-1]))]


def _floyd(key: Key, size: int, num: int) -> NDArray[np.int64]:
    """Floyd's algorithm: one draw for each element, no repeats to remove; for small `num`."""
    words = key.words(num).tolist()
    chosen: set[int] = set()
    for word, last in zip(words, range(size - num, size), strict=True):
        draw = word % (last + 1)
        chosen.add(last if draw in chosen else draw)
    return np.array(sorted(chosen), dtype=np.int64)


def permutation_index(key: Key, index: int, size: int) -> int:
    """Where a random permutation of range(size) sends `index`; O(1) memory and expected O(1) time.

    A Feistel network of six rounds on the smallest even number of bits that holds `size`, walked along its cycle until
    it falls below `size`. So a shuffled epoch needs no list, and resuming in the middle of one needs no replay.

    >>> sorted(permutation_index(Key(3, "epoch"), i, 7) for i in range(7))
    [0, 1, 2, 3, 4, 5, 6]
    """
    if not 0 <= index < size:
        raise ValueError(f"index {index} is outside range({size})")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    seeds = key._words_of_key()
    value = index
    while True:
        left, right = value >> half, value & mask
        for round_number in range(6):
            left, right = right, left ^ (_mix(right, round_number, seeds) & mask)
        value = (left << half) | right
        if value < size:
            return value


def _mix(value: int, round_number: int, seeds: tuple[int, int]) -> int:
    """A 64-bit finaliser (the one of SplitMix64) of a half, its round and the key."""
    x = (value ^ (seeds[0] << 32 | seeds[1])) + (round_number + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    x = (x ^ x >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return x ^ x >> 31
