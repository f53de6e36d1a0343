"""Triton: products with a weight of blocks, which are dense squares inside a matrix that is zero elsewhere.

The entries of a support lie row by row, so those of a row of blocks are one dense matrix: SIZE rows, and as many
columns as its blocks have together (`width`), block beside block. Nothing has to be laid out anew for the products.
Names of pointers as in `weight_kernels`; a pointer is a `tl.tensor`, too.
"""

import triton
import triton.language as tl

from fallow.linear.kernels.gpu.weight_kernels import add_product


@triton.jit
def forward(
    y: tl.tensor,
    x: tl.tensor,
    values: tl.tensor,
    bias: tl.tensor,
    pointers: tl.tensor,
    columns: tl.tensor,
    tokens: tl.tensor,
    d_out: tl.tensor,
    d_in: tl.tensor,
    HAS_BIAS: tl.constexpr,
    NARROW: tl.constexpr,
    SIZE: tl.constexpr,
    STEP: tl.constexpr,
    TOKENS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """A program gives TOKENS x SIZE of y: a row of blocks, STEP columns of a block at a time."""
    block_row = tl.program_id(0) % (d_out // SIZE)  # neighbours share their tokens, in the cache
    token = (tl.program_id(0) // (d_out // SIZE)).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    is_token = (token < tokens)[:, None]
    row = tl.arange(0, SIZE)
    inner = tl.arange(0, STEP)
    begin = tl.multiple_of(tl.load(pointers + block_row * SIZE).to(tl.int64), SIZE)
    width = (tl.load(pointers + block_row * SIZE + 1).to(tl.int64) - begin).to(tl.int32)
    width = tl.multiple_of(width, SIZE)
    total = tl.zeros((TOKENS, SIZE), tl.float32)
    for start in range(0, width, STEP):
        column = tl.load(columns + begin + start).to(tl.int32)
        if NARROW:
            column = column & 0xFFFF
        column = tl.multiple_of(column, STEP)
        x_part = tl.load(x + token[:, None] * d_in + column + inner[None, :], mask=is_token, other=0.0)
        block = tl.load(values + begin + row[None, :] * width + start + inner[:, None])
        total = add_product(total, x_part, block.to(x.dtype.element_ty), PRECISION)
    out = block_row * SIZE + row
    if HAS_BIAS:
        total += tl.load(bias + out)[None, :].to(tl.float32)
    tl.store(y + token[:, None] * d_out + out[None, :], total.to(y.dtype.element_ty), mask=is_token)


@triton.jit
def backward_input(
    grad_x: tl.tensor,
    grad: tl.tensor,
    values: tl.tensor,
    pointers: tl.tensor,
    column_begins: tl.tensor,
    block_rows: tl.tensor,
    numbers: tl.tensor,
    tokens: tl.tensor,
    d_out: tl.tensor,
    d_in: tl.tensor,
    SIZE: tl.constexpr,
    STEP: tl.constexpr,
    TOKENS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """A program gives TOKENS x SIZE of the input's gradient: a column of blocks, STEP rows of a block at a time.

    `block_rows` and `numbers` say for each block of a column its row of blocks, and the how-manieth there it is.
    """
    block_column = tl.program_id(0) % (d_in // SIZE)
    token = (tl.program_id(0) // (d_in // SIZE)).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    is_token = (token < tokens)[:, None]
    column = tl.arange(0, SIZE)
    inner = tl.arange(0, STEP)
    first = tl.load(column_begins + block_column)
    last = tl.load(column_begins + block_column + 1)
    total = tl.zeros((TOKENS, SIZE), tl.float32)
    for place in range(first * (SIZE // STEP), last * (SIZE // STEP)):
        block_row = tl.load(block_rows + place // (SIZE // STEP))
        number = tl.load(numbers + place // (SIZE // STEP))
        row = (place % (SIZE // STEP)) * STEP + inner
        begin = tl.multiple_of(tl.load(pointers + block_row * SIZE).to(tl.int64), SIZE)
        width = (tl.load(pointers + block_row * SIZE + 1).to(tl.int64) - begin).to(tl.int32)
        width = tl.multiple_of(width, SIZE)
        grad_part = tl.load(grad + token[:, None] * d_out + block_row * SIZE + row[None, :], mask=is_token, other=0.0)
        block = tl.load(values + begin + row[:, None] * width + number * SIZE + column[None, :])
        total = add_product(total, grad_part, block.to(grad.dtype.element_ty), PRECISION)
    out = token[:, None] * d_in + block_column * SIZE + column[None, :]
    tl.store(grad_x + out, total.to(grad_x.dtype.element_ty), mask=is_token)


@triton.jit
def backward_values(
    grad_values: tl.tensor,
    grad: tl.tensor,
    x: tl.tensor,
    pointers: tl.tensor,
    columns: tl.tensor,
    rows_of_blocks: tl.tensor,
    tokens: tl.tensor,
    d_out: tl.tensor,
    d_in: tl.tensor,
    NARROW: tl.constexpr,
    SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """A program gives the gradient of a block: grad^T x of its rows and columns, TOKENS at a time."""
    place = tl.program_id(0).to(tl.int64)
    block_row = tl.load(rows_of_blocks + place)
    begin = tl.multiple_of(tl.load(pointers + block_row * SIZE).to(tl.int64), SIZE)
    width = (tl.load(pointers + block_row * SIZE + 1).to(tl.int64) - begin).to(tl.int32)
    width = tl.multiple_of(width, SIZE)
    start = (place * (SIZE * SIZE) - begin).to(tl.int32) // SIZE  # of the block, in a row of entries
    start = tl.multiple_of(start, SIZE)
    column = tl.load(columns + begin + start).to(tl.int32)
    if NARROW:
        column = column & 0xFFFF
    column = tl.multiple_of(column, SIZE)
    inside = tl.arange(0, SIZE)
    total = tl.zeros((SIZE, SIZE), tl.float32)
    for begins in range(0, tokens, TOKENS):
        token = (begins + tl.arange(0, TOKENS)).to(tl.int64)
        is_token = token < tokens
        grad_part = tl.load(
            grad + token[None, :] * d_out + block_row * SIZE + inside[:, None], mask=is_token[None, :], other=0.0
        )
        x_part = tl.load(x + token[:, None] * d_in + column + inside[None, :], mask=is_token[:, None], other=0.0)
        total = add_product(total, grad_part, x_part, PRECISION)
    out = grad_values + begin + inside[:, None] * width + start + inside[None, :]
    tl.store(out, total.to(grad_values.dtype.element_ty))
