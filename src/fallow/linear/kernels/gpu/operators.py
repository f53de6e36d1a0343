"""The kernels for GPUs as torch operators, with shapes for the compiler.

Shapes: t = tokens, o = d_out, i = d_in, r = rank, n = number of sparse entries.
"""

from typing import Any

import torch
from torch import Tensor

from fallow.linear.kernels.gpu.sound import require_support
from fallow.linear.kernels.operators import FLOATS, require_one_device
from fallow.linear.operands import Operands

_operators = torch.library.Library("fallow", "FRAGMENT")
_operators.define(
    "build_weight(int d_out, int d_in, ScalarType dtype, Tensor? base_oi, Tensor? a_ri, Tensor? b_or, float scale, "
    "Tensor? values_n, Tensor? row_pointers_o, Tensor? columns_n, Tensor? later) -> Tensor"
)
_operators.define("at_support(Tensor weight_oi, Tensor row_pointers_o, Tensor columns_n, ScalarType dtype) -> Tensor")


def build_weight(operands: Operands, dtype: torch.dtype, later: Tensor | None = None) -> Tensor:
    """W (d_out, d_in) in `dtype`, in one pass over memory; not differentiable on its own.

    Args:
        operands: the terms; with factors for rows of their own, widened.
        dtype: of the weight; factors are cast to it, and their product is summed in fp32.
        later: a tensor that must exist before W is built. A compiler sees two equal weights in forward and backward,
            and would keep the first; the gradient of the output, given here in backward, makes them differ.
    """
    weight_oi: Tensor = torch.ops.fallow.build_weight(
        *operands.shape,
        dtype,
        operands.base_oi,
        operands.a_ri,
        operands.b_or,
        operands.scale,
        operands.values_n,
        operands.row_pointers_o,
        operands.columns_n,
        later,
    )
    return weight_oi


def at_support(weight_oi: Tensor, operands: Operands) -> Tensor:
    """The entries of a dense matrix (d_out, d_in) at the support, in the type of the values; shape (nnz,)."""
    assert operands.values_n is not None
    values_n: Tensor = torch.ops.fallow.at_support(
        weight_oi, operands.row_pointers_o, operands.columns_n, operands.values_n.dtype
    )
    return values_n


def _build_weight(
    d_out: int,
    d_in: int,
    dtype: torch.dtype,
    base_oi: Tensor | None,
    a_ri: Tensor | None,
    b_or: Tensor | None,
    scale: float,
    values_n: Tensor | None,
    row_pointers_o: Tensor | None,
    columns_n: Tensor | None,
    later: Tensor | None,
) -> Tensor:
    from fallow.linear.kernels.gpu.weight import build

    like = _require_terms(d_out, d_in, dtype, base_oi, a_ri, b_or, values_n, row_pointers_o, columns_n)
    if row_pointers_o is not None and columns_n is not None:
        require_support(row_pointers_o, columns_n, d_in)
    if not d_out * d_in:
        return like.new_empty(d_out, d_in, dtype=dtype)
    return build((d_out, d_in), dtype, base_oi, a_ri, b_or, scale, values_n, row_pointers_o, columns_n)


def _at_support(weight_oi: Tensor, row_pointers_o: Tensor, columns_n: Tensor, dtype: torch.dtype) -> Tensor:
    from fallow.linear.kernels.gpu.weight import take

    _require_matrix(weight_oi, row_pointers_o, columns_n, dtype)
    require_support(row_pointers_o, columns_n, weight_oi.shape[1])
    if not columns_n.numel():
        return weight_oi.new_empty(0, dtype=dtype)
    return take(weight_oi, row_pointers_o, columns_n, dtype)


def _fake_build_weight(d_out: int, d_in: int, dtype: torch.dtype, *rest: Any) -> Tensor:
    base_oi, a_ri, b_or, _, values_n, row_pointers_o, columns_n, _ = rest
    like = _require_terms(d_out, d_in, dtype, base_oi, a_ri, b_or, values_n, row_pointers_o, columns_n)
    return like.new_empty(d_out, d_in, dtype=dtype)


def _fake_at_support(weight_oi: Tensor, row_pointers_o: Tensor, columns_n: Tensor, dtype: torch.dtype) -> Tensor:
    _require_matrix(weight_oi, row_pointers_o, columns_n, dtype)
    return weight_oi.new_empty(columns_n.shape[0], dtype=dtype)


def _require_terms(
    d_out: int,
    d_in: int,
    dtype: torch.dtype,
    base_oi: Tensor | None,
    a_ri: Tensor | None,
    b_or: Tensor | None,
    values_n: Tensor | None,
    row_pointers_o: Tensor | None,
    columns_n: Tensor | None,
) -> Tensor:
    """Refuse terms that make up no weight of this size; gives one of them."""
    terms = [term for term in (values_n, b_or, base_oi) if term is not None]
    pairs = ((a_ri is None) == (b_or is None), (row_pointers_o is None) == (columns_n is None) == (values_n is None))
    if not terms or not all(pairs) or min(d_out, d_in) < 0:
        raise ValueError(
            f"a weight of {d_out} x {d_in} needs a base, two factors or the three tensors of a sparse term"
        )
    require_one_device(base_oi, a_ri, b_or, values_n, row_pointers_o, columns_n)
    rank = 0 if a_ri is None or not a_ri.dim() else a_ri.shape[0]
    nnz = () if columns_n is None else columns_n.shape
    wanted = (("base", base_oi, (d_out, d_in)), ("factor a", a_ri, (rank, d_in)), ("factor b", b_or, (d_out, rank)),
              ("row pointers", row_pointers_o, (d_out + 1,)), ("values", values_n, nnz))  # fmt: skip
    for name, term, shape in wanted:
        floats = name == "row pointers" or term is None or term.dtype in FLOATS
        if term is not None and (term.shape != shape or not floats):
            raise ValueError(
                f"{name} of {tuple(term.shape)} {term.dtype} cannot be part of a weight of {d_out} x {d_in}"
            )
    if dtype not in FLOATS:
        raise ValueError(f"the kernels build no weight of {dtype}")
    return terms[0]


def _require_matrix(weight_oi: Tensor, row_pointers_o: Tensor, columns_n: Tensor, dtype: torch.dtype) -> None:
    """Refuse a matrix that a support cannot be of."""
    require_one_device(weight_oi, row_pointers_o, columns_n)
    fits = weight_oi.dim() == 2 and row_pointers_o.shape == (weight_oi.shape[0] + 1,) and columns_n.dim() == 1
    if not fits or weight_oi.dtype not in FLOATS or dtype not in FLOATS:
        raise ValueError(
            f"{row_pointers_o.numel()} row pointers do not take entries in {dtype} of a matrix of "
            f"{tuple(weight_oi.shape)} in {weight_oi.dtype}"
        )


for _device in ("CUDA", "CPU"):  # on the CPU only where Triton interprets its kernels; `available.take` sees to it
    _operators.impl("build_weight", _build_weight, _device)
    _operators.impl("at_support", _at_support, _device)
torch.library.register_fake("fallow::build_weight", _fake_build_weight, lib=_operators)
torch.library.register_fake("fallow::at_support", _fake_at_support, lib=_operators)
