"""What the kernels know of a support beyond its indices, as one tensor that lives and moves with the layer."""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from fallow.linear.kernels.library import check, library

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
    """Whether the kernels take a support: 16-bit columns, 32-bit pointers, at most 65,536 rows."""
    return max(shape) <= _WIDEST and columns_n.dtype == torch.uint16 and row_pointers_o.dtype == torch.int32


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
    if not serves(shape, columns_n, row_pointers_o):
        raise ValueError(f"a support of {shape[0]} x {shape[1]} with {columns_n.dtype} columns is not served")
    if row_pointers_o.numel() != shape[0] + 1 or int(row_pointers_o[-1]) != columns_n.numel():
        raise ValueError("row pointers and columns do not belong together")
    data, size = ctypes.c_void_p(), ctypes.c_int64()
    check(
        found.structure_build(
            found.engines[engine or found.engine],
            *shape,
            row_pointers_o.contiguous().data_ptr(),
            columns_n.contiguous().data_ptr(),
            group,
            ctypes.byref(data),
            ctypes.byref(size),
        )
    )
    try:
        structure = torch.empty(size.value, dtype=torch.int32)
        ctypes.memmove(structure.data_ptr(), data, size.value * 4)
    finally:
        found.structure_free(data)
    return structure


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
    check(found.structure_facts(structure.data_ptr(), structure.numel(), facts))
    names = {number: name for name, number in found.engines.items()}
    return Facts(bool(facts[0]), facts[1], facts[2], names[facts[3]])
