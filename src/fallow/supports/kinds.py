"""Kinds of support: every one is drawn from a key, with an exact number of entries.

Shapes: (d_out, d_in), the orientation of `nn.Linear.weight`.
"""

import itertools
import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fallow.errors import UserError, unknown
from fallow.random import Key, sample_without_replacement
from fallow.supports.support import Support


class Kind(Protocol):
    """A rule by which a support is drawn."""

    def num_entries(self, shape: tuple[int, int], density: float) -> int:
        """How many entries `draw` will give; raises UserError when the shape does not fit the kind."""
        ...

    def draw(self, shape: tuple[int, int], density: float, key: Key) -> Support:
        """The support of this shape, density and key: always the same one."""
        ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """nnz = round(density * d_out * d_in) entries without replacement, every subset equally likely (SPDF, SLTrain).

    >>> Uniform().draw((4, 8), 0.25, Key(0, "w")).nnz
    8
    """

    def num_entries(self, shape: tuple[int, int], density: float) -> int:
        """round(density * d_out * d_in)."""
        return round(density * shape[0] * shape[1])

    def draw(self, shape: tuple[int, int], density: float, key: Key) -> Support:
        """O(nnz) memory, whatever the density."""
        num = self.num_entries(shape, density)
        return Support.from_flat(shape, sample_without_replacement(key, shape[0] * shape[1], num))


@dataclass(frozen=True, slots=True)
class Vector:
    """Columns of `height` x 1: groups of `height` rows share their column indices, so kernels can share loads.

    Raises:
        UserError: d_out is not a multiple of height.

    >>> support = Vector(4).draw((4, 8), 0.25, Key(0, "w"))
    >>> support.columns.reshape(4, 2).unique(dim=0).shape[0]  # four rows, one set of columns
    1
    """

    height: int

    def num_entries(self, shape: tuple[int, int], density: float) -> int:
        """The nearest multiple of `height`."""
        _require_multiple(self.height, shape[0], "rows", f"vector:{self.height}")
        return round(density * shape[0] * shape[1] / self.height) * self.height

    def draw(self, shape: tuple[int, int], density: float, key: Key) -> Support:
        """Groups are drawn as `Uniform` draws entries."""
        return _tiles(shape, (self.height, 1), self.num_entries(shape, density), key)


@dataclass(frozen=True, slots=True)
class Block:
    """Tiles of `size` x `size`.

    Raises:
        UserError: d_out or d_in is not a multiple of size.

    >>> Block(2).draw((4, 4), 0.5, Key(0, "w")).nnz
    8
    """

    size: int

    def num_entries(self, shape: tuple[int, int], density: float) -> int:
        """The nearest multiple of size * size."""
        for length, word in zip(shape, ("rows", "columns"), strict=True):
            _require_multiple(self.size, length, word, f"block:{self.size}")
        area = self.size**2
        return round(density * shape[0] * shape[1] / area) * area

    def draw(self, shape: tuple[int, int], density: float, key: Key) -> Support:
        """Tiles are drawn as `Uniform` draws entries."""
        return _tiles(shape, (self.size, self.size), self.num_entries(shape, density), key)


@dataclass(frozen=True, slots=True)
class NofM:
    """`n` of every `m` consecutive entries of a row, as sparse tensor cores want it (2:4).

    Raises:
        UserError: d_in is not a multiple of m, or the density is not n / m.

    >>> NofM(2, 4).draw((2, 8), 0.5, Key(0, "w")).nnz
    8
    """

    n: int
    m: int

    def num_entries(self, shape: tuple[int, int], density: float) -> int:
        """d_out * d_in * n / m."""
        if abs(density - self.n / self.m) > 1e-9:
            raise UserError(
                f"a {self.n}:{self.m} support has sparsity {1 - self.n / self.m:g} in every layer, "
                f"but {1 - density:g} was asked for. Write sparsity {1 - self.n / self.m:g}, or support uniform"
            )
        _require_multiple(self.m, shape[1], "columns", f"{self.n}:{self.m}")
        return shape[0] * shape[1] * self.n // self.m

    def draw(self, shape: tuple[int, int], density: float, key: Key) -> Support:
        """In each group the n smallest of m random words."""
        num_groups = self.num_entries(shape, density) // self.n
        words = key.words(num_groups * self.m).reshape(num_groups, self.m)
        chosen = np.sort(np.argsort(words, axis=1, kind="stable")[:, : self.n], axis=1)
        starts = np.arange(num_groups, dtype=np.int64)[:, None] * self.m
        return Support.from_flat(shape, (starts + chosen).reshape(-1))


_PATTERNS = np.array(
    [
        tile
        for tile in itertools.product(range(16), repeat=4)  # a row of four entries is a number of four bits
        if all(row.bit_count() == 2 for row in tile) and all(sum(r >> c & 1 for r in tile) == 2 for c in range(4))
    ]
)
"""The 90 tiles of 4 x 4 with two entries in each row and each column."""


@dataclass(frozen=True, slots=True)
class Transposable:
    """2:4 in both directions: of every 4 consecutive entries of a row, and of a column, two (Hubara et al., 2021).

    Sparse tensor cores want two of four along the axis that a product sums over: columns of W in the forward product,
    rows of W in the gradient of the input. Tiles of 4 x 4 are drawn from the 90 that serve both, each equally likely,
    so both products can be sparse and exact.

    Differs from SLoPe (Mozaffari et al., 2024), whose support is 2:4 in rows alone and is pruned a second time for the
    gradient of the input, which is then an approximation.

    Raises:
        UserError: d_out or d_in is not a multiple of 4, or the density is not 0.5.

    >>> Transposable().draw((4, 4), 0.5, Key(0, "w")).nnz
    8
    """

    def num_entries(self, shape: tuple[int, int], density: float) -> int:
        """Half of d_out * d_in."""
        if abs(density - 0.5) > 1e-9:
            raise UserError(
                f"a transposable support has sparsity 0.5 in every layer, but {1 - density:g} was asked for. "
                "Write sparsity 0.5, or support uniform"
            )
        for length, word in zip(shape, ("rows", "columns"), strict=True):
            _require_multiple(4, length, word, "transposable")
        return shape[0] * shape[1] // 2

    def draw(self, shape: tuple[int, int], density: float, key: Key) -> Support:
        """A word for each tile says which of the 90 it is."""
        self.num_entries(shape, density)
        words = key.words(shape[0] * shape[1] // 16) % np.uint64(len(_PATTERNS))
        tiles = _PATTERNS[words.astype(np.int64)].reshape(shape[0] // 4, shape[1] // 4, 4)
        entries = tiles[..., None] >> np.arange(4) & 1  # (row of tiles, column of tiles, row, column)
        return Support.from_flat(shape, np.flatnonzero(entries.transpose(0, 2, 1, 3)))


def kind_of(text: str) -> Kind:
    """The kind a recipe names: `uniform`, `2:4` (any n:m), `transposable`, `vector:4` (height), `block:16` (size).

    >>> kind_of("vector:4")
    Vector(height=4)
    """
    if text == "uniform":
        return Uniform()
    if text == "transposable":
        return Transposable()
    if match := re.fullmatch(r"(\d+):(\d+)", text):
        n, m = int(match[1]), int(match[2])
        if not 0 < n <= m:
            raise UserError(f'support "{text}" keeps {n} of every {m} entries; the first number must be 1 to {m}')
        return NofM(n, m)
    if match := re.fullmatch(r"(vector|block):(\d+)", text):
        size = int(match[2])
        if size < 1:
            raise UserError(f'support "{text}": the number must be at least 1')
        return Vector(size) if match[1] == "vector" else Block(size)
    raise unknown("support", text, ["uniform", "2:4", "1:4", "transposable", "vector:4", "block:16"])


def _tiles(shape: tuple[int, int], tile: tuple[int, int], num_entries: int, key: Key) -> Support:
    height, width = tile
    per_row = shape[1] // width
    chosen = sample_without_replacement(key, shape[0] // height * per_row, num_entries // (height * width))
    tile_rows, tile_columns = np.divmod(chosen, per_row)
    rows = tile_rows[:, None, None] * height + np.arange(height)[None, :, None]
    columns = tile_columns[:, None, None] * width + np.arange(width)[None, None, :]
    return Support.from_flat(shape, np.sort((rows * shape[1] + columns).reshape(-1)))


def _require_multiple(size: int, length: int, word: str, kind: str) -> None:
    if length % size:
        raise UserError(
            f"support {kind} needs a multiple of {size} {word}, but this matrix has {length}. "
            f"Use a size that divides {length}, or support uniform"
        )
