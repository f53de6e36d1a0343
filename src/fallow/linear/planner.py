"""Which path computes a layer, and why: by a table of what was measured, or by a measurement on the machine at hand.

The table answers the same on every process and in every run, so nothing depends on a clock unless it is asked for.
"""

from collections.abc import Mapping
from typing import NamedTuple

from fallow.linear.kernels.gpu.block_structure import block_structure_bytes
from fallow.linear.kernels.library import library, missing
from fallow.linear.kernels.structure import expected_bytes, expected_scratch
from fallow.linear.paths.fits import SPECIAL, unfit
from fallow.linear.paths.structures import KERNEL_PATHS, LEAN_PATHS, block_size
from fallow.linear.paths.update import keeps_places
from fallow.linear.terms import Sparse, Terms
from fallow.supports import Block, Support, Vector

NO_GAIN = "no speed-up available at this sparsity on this device"

MEASURE = "measure"
"""Given in place of a path: find the fastest by measuring on this machine."""

_FEW = 0.005
"""Density up to which the products (tokens x entries) of the path `update` are smaller than building a matrix."""

_WIDEST = 65_536

_SMALLEST = 128 * 128
"""Positions of the smallest matrix for which calling the kernels pays, at a few hundred tokens."""

_LEAST: Mapping[str, tuple[float, float]] = {"avx512": (0.5, 0.4), "avx2": (0.6, 0.5)}
"""By instruction set: the least sparsity at which the kernels beat the dense product clearly, for any support and for
one whose rows share their columns four by four. Others were not measured and are not chosen by the table."""

_COST = 2.5
"""Time of an entry of the sparse term in the kernels, in entries of a dense product, where entries are few."""

_WORTH = 1.1
"""Operations of factors and entries, as a share of the dense product's, up to which they are the faster way. Above 1
too: the other way builds the product of the factors, and takes 1.2 to 2.5 of the dense time at such ranks."""


class Choice(NamedTuple):
    """A path by name, and the reason in a few words."""

    path: str
    why: str


def usual(terms: Terms, shape: tuple[int, int], device: str = "cpu") -> Choice:
    """The path of a layer for which none is named, by the table.

    Args:
        terms: of the layer.
        shape: (d_out, d_in).
        device: type of the device that the layer is on.

    >>> from fallow.linear import Base
    >>> usual(Terms(base=Base()), (8, 8)).path
    'materialise'
    """
    frozen = terms.base is not None and not terms.base.trainable
    many = isinstance(terms.sparse, Sparse) and terms.sparse.density > _FEW
    if frozen and (terms.low_rank or terms.sparse) and not many:
        return Choice("update", "a small update beside a frozen base makes no matrix of its own")
    if terms.base is not None:
        return Choice("materialise", "the base is dense")
    if device != "cpu":
        other = next((path for path in SPECIAL if not unfit(path, terms, shape)), "")
        untimed = f"the table has no times of path {other} on GPUs; path: measure finds out"
        return Choice("materialise", f"one dense product; {untimed if other else NO_GAIN}")
    return _on_cpu(terms, shape)


def _on_cpu(terms: Terms, shape: tuple[int, int]) -> Choice:
    size, kernels = shape[0] * shape[1], library()
    entries = 0 if terms.sparse is None else terms.sparse.num_entries(shape[1])
    if entries and kernels is None:
        return Choice("materialise", f"no compiled kernels: {missing()}")
    if terms.low_rank is not None:
        cost = (terms.low_rank.num_entries(shape) + _COST * entries) / size
        if cost <= _WORTH:
            return Choice("factored", f"the factors and entries cost {cost:.0%} of a dense product")
        return Choice("materialise", f"the factors and entries would cost {cost:.0%} of a dense product")
    assert terms.sparse is not None
    assert kernels is not None
    sparsity = 1 - entries / size
    if kernels.engine not in _LEAST:
        return Choice("materialise", f"the {kernels.engine} kernels were not measured; fallow bench linear does it")
    if max(shape) > _WIDEST:
        return Choice("materialise", f"{NO_GAIN}: the kernels serve at most {_WIDEST:,} rows and columns")
    if size < _SMALLEST:
        return Choice("materialise", f"{NO_GAIN}: a matrix of {shape[0]} x {shape[1]} is too small")
    least = _LEAST[kernels.engine][rows_share_columns(terms)]
    if sparsity < least - 1e-9:
        return Choice("materialise", f"{NO_GAIN}: {sparsity:.0%}, and {least:.0%} is needed")
    return Choice("sparse", f"the {kernels.engine} kernels multiply only the {1 - sparsity:.0%} that exist")


def rows_share_columns(terms: Terms) -> bool:
    """Whether every four rows of the support have the same columns, which the kernels like best."""
    if not isinstance(terms.sparse, Sparse):
        return False
    kind = terms.sparse.kind
    height = kind.height if isinstance(kind, Vector) else kind.size if isinstance(kind, Block) else 1
    return height % 4 == 0 and all(rows % 4 == 0 for rows in terms.sparse.parts)


def structure_bytes(terms: Terms, shape: tuple[int, int]) -> int:
    """Bytes that the kernels derive from a layer's support and keep beside it, without drawing it."""
    assert terms.sparse is not None
    return expected_bytes(shape, terms.sparse.num_entries(shape[1]), rows_share_columns(terms))


def index_bytes(terms: Terms, shape: tuple[int, int], path: str, device: str) -> int:
    """Bytes of row pointers and columns of a support, and of what a path derives from them and keeps, without drawing.

    Args:
        terms: of the layer; 0 without a sparse term.
        shape: (d_out, d_in).
        path: that computes the layer.
        device: type of the device that computes it.
    """
    if terms.sparse is None:
        return 0
    entries = terms.sparse.num_entries(shape[1])
    own = Support.meta(shape, entries).num_bytes
    if path == "update" and terms.base is not None:
        return own + (16 * entries if keeps_places(entries) else 0)
    if path == "block":
        return own + block_structure_bytes(shape, entries, block_size(terms))
    keeps = uses_kernels(terms, path, device) and path not in LEAN_PATHS
    return own + (structure_bytes(terms, shape) if keeps else 0)


def uses_kernels(terms: Terms, path: str, device: str) -> bool:
    """Whether the compiled kernels compute the sparse term of a layer."""
    return terms.sparse is not None and path in KERNEL_PATHS and device == "cpu" and library() is not None


def scratch_bytes(terms: Terms, shape: tuple[int, int], tokens: int) -> int:
    """Bytes that the kernels allocate while they compute a layer, and free at the end of the product."""
    assert terms.sparse is not None
    return expected_scratch(shape, terms.sparse.num_entries(shape[1]), rows_share_columns(terms), tokens)
