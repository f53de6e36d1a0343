"""Kinds of support: every one is drawn from a key, with an exact number of entries.

Shapes: (d_out, d_in), the orientation of `nn.Linear.weight`.
"""

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


def kind_of(text: str) -> Kind:
    """The kind a recipe names: `uniform`, `2:4` (any n:m), `vector:4` (height), `block:16` (size).

    >>> kind_of("vector:4")
    Vector(height=4)
    """
    if text == "uniform":
        return Uniform()
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
    raise unknown("support", text, ["uniform", "2:4", "1:4", "vector:4", "block:16"])


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
