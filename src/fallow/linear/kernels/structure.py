"""What the kernels know of a support beyond its indices, as one tensor that lives and moves with the layer."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from fallow.linear.kernels.library import OTHER_STRUCTURE, UNSOUND, Library, Matrix, check, library, missing
from fallow.linear.kernels.sound import recall, remember

_WIDEST = 65_536


class Facts(NamedTuple):
    """How a structure lets a product be walked."""

    shared: bool
    """Every four rows have the same columns (`vector` and `block` supports): loads are shared between them."""

    group: int
    """Rows that are walked together in the forward product."""

    group_back: int
    """The same in the gradient of the input."""

    engine: str
    """The instruction set it was made for."""


def serves(shape: tuple[int, int], columns_n: Tensor, row_pointers_o: Tensor) -> bool:
    """Whether the kernels take a support: on the CPU, 16-bit columns, 32-bit pointers, at most 65,536 rows."""
    vectors = row_pointers_o.dim() == columns_n.dim() == 1 and columns_n.is_cpu and row_pointers_o.is_cpu
    narrow = columns_n.dtype == torch.uint16 and row_pointers_o.dtype == torch.int32
    return vectors and narrow and min(shape) >= 1 and max(shape) <= _WIDEST


def make_structure(
    shape: tuple[int, int], row_pointers_o: Tensor, columns_n: Tensor, *, engine: str = "", group: int = 0
) -> Tensor:
    """Derive the structure of a support.

    It costs about 0.3 bytes an entry for `vector` and `block` supports, 4 to 7 for others, beside the 2 of the support;
    `measure_memory` counts them. It is made again wherever the support is, and never saved.

    Args:
        shape: (d_out, d_in).
        row_pointers_o: int32, on the CPU.
        columns_n: uint16, on the CPU.
        engine: an instruction set by name; by default the one that the library uses.
        group: rows to walk together, 1, 2 or 4; 0 lets the density decide.

    Raises:
        ValueError: the support is not sound, or the kernels do not serve its size.
    """
    found = library()
    assert found is not None, "ask library() first"
    if row_pointers_o.numel() != shape[0] + 1:
        raise ValueError(f"{row_pointers_o.numel()} row pointers do not belong to {shape[0]} rows")
    row_pointers_o, columns_n = _aligned(row_pointers_o.contiguous()), _aligned(columns_n.contiguous())
    number = found.engines[engine or found.engine]
    built = _built(found, number, shape[1], row_pointers_o, columns_n, group)
    with built as built_s, torch.inference_mode(False):  # it can then be saved for backward
        structure_s = built_s.clone()
    known = _matrix(found, shape[1], row_pointers_o, columns_n, structure_s)
    remember(shape[1], (row_pointers_o, columns_n, structure_s), known)
    return structure_s


class SoundMatrix(NamedTuple):
    """A sparse matrix in the kernels' form, whose support was looked at."""

    kernels: Library
    d_out: int
    nnz: int
    form: Matrix
    """Without values."""

    held: tuple[Tensor, ...]
    """Tensors that must live as long as `form` is used, where they are not those that were given."""


def sound_matrix(structure_s: Tensor, row_pointers_o: Tensor, columns_n: Tensor, d_in: int) -> SoundMatrix:
    """The matrix of a support, for the kernels.

    That the support is sound, and that the structure is its own, is found out once for these tensors; the library is
    the one that is there then.

    Args:
        structure_s: from `make_structure`, or empty.
        row_pointers_o: of the support.
        columns_n: of the support.
        d_in: columns of the matrix.

    Raises:
        ValueError: the support is not sound, the structure is another one's, or the kernels do not serve them.
        RuntimeError: there is no library.
    """
    tensors = (row_pointers_o, columns_n, structure_s) if structure_s.numel() else (row_pointers_o, columns_n)
    known: SoundMatrix | None = recall(d_in, tensors)
    if known is None:
        found = library()
        if found is None:
            raise RuntimeError(f"there are no compiled kernels here: {missing()}")
        known = _sound(found, d_in, *tensors)
        remember(d_in, tensors, known)
    return known


def _sound(
    found: Library, d_in: int, row_pointers_o: Tensor, columns_n: Tensor, structure_s: Tensor | None = None
) -> SoundMatrix:
    """Builds the structure of the support, which looks at all of it, and compares the one that is given."""
    given = [row_pointers_o, columns_n, *([] if structure_s is None else [structure_s])]
    _require_served(row_pointers_o, columns_n, d_in)  # before anything is copied: a small tensor may be expanded
    if structure_s is not None and not structure_s.is_contiguous():
        check(OTHER_STRUCTURE)
    plain = [_aligned(tensor.contiguous()) for tensor in given]
    number, group = found.engines[found.engine], 0
    if structure_s is not None:
        facts = facts_of(plain[2])
        number, group = found.engines[facts.engine], 0 if facts.shared else facts.group
    with _built(found, number, d_in, plain[0], plain[1], group) as built_s:
        if structure_s is not None and not torch.equal(plain[2], built_s):
            check(OTHER_STRUCTURE)
    known = _matrix(found, d_in, *plain)
    return known._replace(held=tuple(t for t, before in zip(plain, given, strict=True) if t is not before))


def _aligned(tensor: Tensor) -> Tensor:
    """The same numbers at an address that suits their type."""
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def _matrix(
    found: Library, d_in: int, row_pointers_o: Tensor, columns_n: Tensor, structure_s: Tensor | None = None
) -> SoundMatrix:
    d_out, nnz = row_pointers_o.numel() - 1, columns_n.numel()
    form = Matrix(
        None if structure_s is None else structure_s.data_ptr(),
        0 if structure_s is None else structure_s.numel(),
        d_out,
        d_in,
        nnz,
        row_pointers_o.data_ptr(),
        columns_n.data_ptr(),
        None,
        found.engines[found.engine],
    )
    return SoundMatrix(found, d_out, nnz, form, ())


def _require_served(row_pointers_o: Tensor, columns_n: Tensor, d_in: int) -> None:
    d_out = row_pointers_o.numel() - 1
    if not serves((d_out, d_in), columns_n, row_pointers_o):
        raise ValueError(
            f"a support of {d_out} x {d_in} with {columns_n.dtype} columns and {row_pointers_o.dtype} pointers on "
            f"{columns_n.device} and {row_pointers_o.device} is not served"
        )
    if columns_n.numel() > d_out * d_in:
        check(UNSOUND)


@contextmanager
def _built(
    found: Library, engine: int, d_in: int, row_pointers_o: Tensor, columns_n: Tensor, group: int
) -> Iterator[Tensor]:
    """The library's own structure of a support, in memory that it takes back."""
    d_out = row_pointers_o.numel() - 1
    _require_served(row_pointers_o, columns_n, d_in)
    nnz, ends = columns_n.numel(), row_pointers_o.aminmax()
    if int(row_pointers_o[-1]) != nnz:
        raise ValueError("row pointers and columns do not belong together")
    if int(ends.min) < 0 or int(ends.max) > nnz:  # the library reads the columns of a row before it sees the next row
        check(UNSOUND)
    data, size = ctypes.c_void_p(), ctypes.c_int64()
    code = found.structure_build(
        engine,
        d_out,
        d_in,
        row_pointers_o.data_ptr(),
        columns_n.data_ptr(),
        group,
        ctypes.byref(data),
        ctypes.byref(size),
    )
    check(code)
    assert data.value is not None
    try:
        yield torch.frombuffer((ctypes.c_int32 * size.value).from_address(data.value), dtype=torch.int32)
    finally:
        found.structure_free(data)


def expected_bytes(shape: tuple[int, int], entries: int, shared: bool) -> int:
    """Bytes of the structure of a random support, without drawing it; 0 where there are no kernels or they do not act.

    Args:
        shape: (d_out, d_in).
        entries: of the support.
        shared: whether every four rows have the same columns.
    """
    found = library()
    if found is None or max(shape) > _WIDEST or not entries:
        return 0
    return int(found.expected_bytes(found.engines[found.engine], *shape, entries, shared))


def expected_scratch(shape: tuple[int, int], entries: int, shared: bool, tokens: int) -> int:
    """Bytes that a product allocates inside the kernels and frees at its end, with as many threads as torch has now.

    Args:
        shape: (d_out, d_in).
        entries: of the support.
        shared: whether every four rows have the same columns.
        tokens: of the activations.
    """
    found = library()
    if found is None or max(shape) > _WIDEST or not entries:
        return 0
    number = found.engines[found.engine]
    return int(found.scratch_bytes(number, *shape, entries, shared, tokens, torch.get_num_threads()))


def facts_of(structure: Tensor) -> Facts:
    """What a structure says of itself.

    Raises:
        ValueError: it was not made by this library.
    """
    found = library()
    assert found is not None
    facts = (ctypes.c_int32 * 4)()
    if structure.dtype != torch.int32 or not structure.is_cpu or not structure.is_contiguous():
        check(OTHER_STRUCTURE)
    check(found.structure_facts(structure.data_ptr(), structure.numel(), facts))
    names = {number: name for name, number in found.engines.items()}
    return Facts(bool(facts[0]), facts[1], facts[2], names[facts[3]])
