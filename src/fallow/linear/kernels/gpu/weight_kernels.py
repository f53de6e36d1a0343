"""Triton: a weight built from its terms in one pass, and the entries of a gradient taken at the support.

Names of pointers: `pointers` and `columns` are those of the support, `begin` and `end` bound the entries of a row.
Offsets are 64-bit, since a weight may have more than 2^31 entries. A pointer is a `tl.tensor`, too: Triton
knows no types but its own.
"""

import triton
import triton.language as tl


@triton.jit
def add_product(total: tl.tensor, left: tl.tensor, right: tl.tensor, PRECISION: tl.constexpr) -> tl.tensor:
    """Total + left @ right, summed in fp32; see `available.precision`."""
    if PRECISION == "widen":
        return tl.dot(left.to(tl.float32), right.to(tl.float32), total, input_precision="ieee")
    else:
        return tl.dot(left, right, total, input_precision=PRECISION)


@triton.jit
def column_at(columns: tl.tensor, at: tl.tensor, there: tl.tensor, NARROW: tl.constexpr) -> tl.tensor:
    """Column of the entries `at`; 16-bit columns come as signed numbers."""
    column = tl.load(columns + at, mask=there, other=0).to(tl.int32)
    if NARROW:
        column = column & 0xFFFF
    return column


@triton.jit
def first_from(
    columns: tl.tensor, low: tl.tensor, high: tl.tensor, wanted: tl.tensor, STEPS: tl.constexpr, NARROW: tl.constexpr
) -> tl.tensor:
    """For each row the first entry in [low, high) whose column is at least `wanted`: a binary search."""
    for _ in range(STEPS):
        middle = (low + high) // 2
        is_open = low < high
        column = column_at(columns, middle, is_open, NARROW)
        low = tl.where(is_open & (column < wanted), middle + 1, low)
        high = tl.where(is_open & (column >= wanted), middle, high)
    return low


@triton.jit
def build_rows(
    weight: tl.tensor,
    base: tl.tensor,
    values: tl.tensor,
    pointers: tl.tensor,
    columns: tl.tensor,
    d_in: tl.tensor,
    HAS_BASE: tl.constexpr,
    NARROW: tl.constexpr,
    FILL: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    """A program a row: the base or zeros, then the row's entries, which lie side by side."""
    row = tl.program_id(0)
    out = weight + row.to(tl.int64) * d_in
    for start in range(0, d_in, FILL):
        column = start + tl.arange(0, FILL)
        if HAS_BASE:
            piece = tl.load(base + row.to(tl.int64) * d_in + column, mask=column < d_in, other=0.0)
            tl.store(out + column, piece.to(weight.dtype.element_ty), mask=column < d_in)
        else:
            tl.store(out + column, tl.zeros((FILL,), weight.dtype.element_ty), mask=column < d_in)
    tl.debug_barrier()  # what other threads of the program wrote must be there before it is added to, or written over
    begin = tl.load(pointers + row).to(tl.int64)
    count = (tl.load(pointers + row + 1).to(tl.int64) - begin).to(tl.int32)
    for start in range(0, count, CHUNK):
        number = start + tl.arange(0, CHUNK)
        there = number < count
        column = column_at(columns, begin + number, there, NARROW)
        value = tl.load(values + begin + number, mask=there, other=0.0).to(tl.float32)
        if HAS_BASE:
            value += tl.load(base + row.to(tl.int64) * d_in + column, mask=there, other=0.0).to(tl.float32)
        tl.store(out + column, value.to(weight.dtype.element_ty), mask=there)


@triton.jit
def build_tiles(
    weight: tl.tensor,
    base: tl.tensor,
    a: tl.tensor,
    b: tl.tensor,
    values: tl.tensor,
    pointers: tl.tensor,
    columns: tl.tensor,
    d_out: tl.tensor,
    d_in: tl.tensor,
    rank: tl.tensor,
    scale: tl.tensor,
    HAS_BASE: tl.constexpr,
    HAS_VALUES: tl.constexpr,
    NARROW: tl.constexpr,
    STEPS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    RANK: tl.constexpr,
    CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """A program a tile: scale B A by the tensor cores, the base, and in the epilogue the entries inside the tile."""
    tiles = tl.cdiv(d_in, COLUMNS)
    row = (tl.program_id(0) // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    first = (tl.program_id(0) % tiles) * COLUMNS
    column = first + tl.arange(0, COLUMNS)
    exists = (row < d_out)[:, None] & (column < d_in)[None, :]
    dtype = weight.dtype.element_ty
    tile = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, rank, RANK):
        inner = start + tl.arange(0, RANK)
        b_part = tl.load(
            b + row[:, None] * rank + inner[None, :], mask=(row < d_out)[:, None] & (inner < rank)[None, :], other=0.0
        )
        a_part = tl.load(
            a + inner[:, None].to(tl.int64) * d_in + column[None, :],
            mask=(inner < rank)[:, None] & (column < d_in)[None, :],
            other=0.0,
        )
        tile = add_product(tile, b_part.to(dtype), a_part.to(dtype), PRECISION)
    tile = tile * scale
    at = row[:, None] * d_in + column[None, :]
    if HAS_BASE:
        tile += tl.load(base + at, mask=exists, other=0.0).to(tl.float32)
    tl.store(weight + at, tile.to(dtype), mask=exists)
    if HAS_VALUES:
        tl.debug_barrier()  # the tile is in memory, near by, for all threads of the program
        low = tl.load(pointers + row, mask=row < d_out, other=0).to(tl.int64)
        high = tl.load(pointers + row + 1, mask=row < d_out, other=0).to(tl.int64)
        low = first_from(columns, low, high, first, STEPS, NARROW)
        high = first_from(columns, low, high, first + COLUMNS, STEPS, NARROW)
        longest = tl.max(high - low, axis=0).to(tl.int32)
        for start in range(0, longest, CHUNK):
            entry = low[:, None] + start + tl.arange(0, CHUNK)[None, :]
            there = entry < high[:, None]
            spot = weight + row[:, None] * d_in + column_at(columns, entry, there, NARROW)
            value = tl.load(values + entry, mask=there, other=0.0).to(tl.float32)
            value += tl.load(spot, mask=there, other=0.0).to(tl.float32)
            tl.store(spot, value.to(dtype), mask=there)


@triton.jit
def take_rows(
    found: tl.tensor,
    weight: tl.tensor,
    pointers: tl.tensor,
    columns: tl.tensor,
    d_in: tl.tensor,
    NARROW: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    """A program a row: the entries of a dense matrix at the support, written side by side."""
    row = tl.program_id(0)
    begin = tl.load(pointers + row).to(tl.int64)
    count = (tl.load(pointers + row + 1).to(tl.int64) - begin).to(tl.int32)
    for start in range(0, count, CHUNK):
        number = start + tl.arange(0, CHUNK)
        there = number < count
        column = column_at(columns, begin + number, there, NARROW)
        value = tl.load(weight + row.to(tl.int64) * d_in + column, mask=there, other=0.0)
        tl.store(found + begin + number, value.to(found.dtype.element_ty), mask=there)
