"""The kernels as torch operators, with shapes for the compiler and gradients for autograd.

Shapes: t = tokens, o = d_out, i = d_in, n = number of sparse entries, s = size of the structure.
"""

import ctypes
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode
from torch.utils.flop_counter import register_flop_formula

from fallow.linear.kernels.library import Matrix, check
from fallow.linear.kernels.structure import SoundMatrix, sound_matrix
from fallow.supports.support import flat_positions

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
"""Types that the kernels take."""

_MOST_TOKENS = 1 << 30
"""Beyond it no memory is asked for: such activations are a small tensor, expanded."""

_SUPPORT = "Tensor values_n, Tensor structure_s, Tensor row_pointers_o, Tensor columns_n"
_operators = torch.library.Library("fallow", "FRAGMENT")
_operators.define(f"sparse_linear(Tensor x_ti, {_SUPPORT}, Tensor? bias_o, Tensor? start_to) -> Tensor")
_operators.define(
    f"sparse_linear_backward(Tensor grad_to, Tensor x_ti, {_SUPPORT}, bool[3] needs) -> (Tensor, Tensor, Tensor)"
)


def sparse_linear(
    x_ti: Tensor,
    values_n: Tensor,
    structure_s: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    bias_o: Tensor | None = None,
    start_to: Tensor | None = None,
) -> Tensor:
    """Y = x S^T + bias + start, where S holds `values` at the support; on the CPU, differentiable.

    Computed in fp32. Half types are widened here, inside, so that autograd keeps x as it came; y has the type of x.

    Args:
        x_ti: activations; rows may be apart, columns may not (such a tensor is copied).
        values_n: in the order of the support.
        structure_s: from `make_structure`; an empty one to derive it in each pass and keep nothing, which costs a few
            percent of a dense product at a density of 0.03.
        row_pointers_o: of the support.
        columns_n: of the support.
        bias_o: added to every token.
        start_to: added to the product, as the other terms of a weight give it; saves a pass over memory.
    """
    inputs = (x_ti, values_n, structure_s, row_pointers_o, columns_n, bias_o, start_to)
    if torch.is_grad_enabled():
        y_to: Tensor = _SparseLinear.apply(*inputs)
    elif traced():
        y_to = torch.ops.fallow.sparse_linear(*inputs)
    else:
        y_to = _forward(*inputs)  # for few tokens the way through the dispatcher would count
    return y_to


def traced() -> bool:
    """Whether a compiler or a counter wants to see operators."""
    return torch.compiler.is_compiling() or is_in_torch_dispatch_mode()


def transformed() -> bool:
    """Whether torch.func transforms what is computed; it can take plain operations apart, and not these."""
    return bool(torch._C._are_functorch_transforms_active())


class _SparseLinear(torch.autograd.Function):
    """Keeps x and the values for backward, nothing else of size."""

    @staticmethod
    def forward(ctx: Any, x_ti: Tensor, *rest: Any) -> Tensor:
        values_n, structure_s, row_pointers_o, columns_n, _, _ = rest
        ctx.save_for_backward(x_ti, values_n, structure_s, row_pointers_o, columns_n)
        y_to: Tensor = torch.ops.fallow.sparse_linear(x_ti, *rest)
        return y_to

    @staticmethod
    def backward(ctx: Any, grad_to: Tensor) -> tuple[Tensor | None, ...]:
        needs_x, needs_values, _, _, _, needs_bias, needs_start = ctx.needs_input_grad
        needs = [needs_x, needs_values, needs_bias]
        found: list[Tensor | None] = [None] * 3
        if torch.is_grad_enabled():  # gradients of gradients: by plain operations
            x_ti, values_n, _, row_pointers_o, columns_n = ctx.saved_tensors
            found = plain_gradients(grad_to, x_ti, values_n, row_pointers_o, columns_n, needs)
        elif any(needs):
            grads = torch.ops.fallow.sparse_linear_backward(grad_to, *ctx.saved_tensors, needs)
            found = [grad if need else None for grad, need in zip(grads, needs, strict=True)]
        return found[0], found[1], None, None, None, found[2], grad_to if needs_start else None


def one_token(
    x_i: Tensor,
    values_n: Tensor,
    structure_s: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    bias_o: Tensor | None,
    a_ri: Tensor,
    b_or: Tensor,
    scale: float,
) -> Tensor:
    """y_o = scale * B (A x) + S x + bias of one token, all in one call; without gradients.

    Of a small layer most of the time for a token is spent between the products, not in them.
    """
    x_ti = x_i.view(1, -1)
    known = sound_matrix(structure_s, row_pointers_o, columns_n, x_ti.shape[1])
    d_out = known.d_out
    require_fit(x_ti, values_n, d_out, known.nnz, bias_o, None)
    _expect(a_ri.dim() == 2 and a_ri.shape[1] == x_ti.shape[1], "factors", a_ri)
    _expect(b_or.shape == (d_out, a_ri.shape[0]), "factors", b_or)
    a_ri, b_or, x_ti, values_n = _plain(a_ri), _plain(b_or), _by_rows(x_ti), _plain(values_n)
    bias_o = None if bias_o is None else _plain(bias_o)
    matrix = _with_values(known, values_n)
    y_o = x_ti.new_empty(d_out)
    check(
        known.kernels.one_token(
            ctypes.byref(matrix),
            a_ri.data_ptr(),
            b_or.data_ptr(),
            a_ri.shape[0],
            scale,
            x_ti.data_ptr(),
            None if bias_o is None else bias_o.data_ptr(),
            y_o.data_ptr(),
            torch.get_num_threads(),
        )
    )
    return y_o if x_i.dtype is torch.float32 else y_o.to(x_i.dtype)


def _forward(
    x_ti: Tensor,
    values_n: Tensor,
    structure_s: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    bias_o: Tensor | None,
    start_to: Tensor | None,
) -> Tensor:
    dtype = x_ti.dtype
    if x_ti.dim() != 2:
        _refuse("activations", x_ti)
    known = sound_matrix(structure_s, row_pointers_o, columns_n, x_ti.shape[1])
    d_out = known.d_out
    require_fit(x_ti, values_n, d_out, known.nnz, bias_o, start_to)
    x_ti, values_n = _by_rows(x_ti), _plain(values_n)
    y_to = x_ti.new_empty(x_ti.shape[0], d_out)
    bias_o = None if bias_o is None else _plain(bias_o)
    start_to = None if start_to is None else _plain(start_to)
    matrix = _with_values(known, values_n)
    check(
        known.kernels.forward(
            ctypes.byref(matrix),
            x_ti.data_ptr(),
            x_ti.stride(0),
            None if bias_o is None else bias_o.data_ptr(),
            None if start_to is None else start_to.data_ptr(),
            y_to.data_ptr(),
            d_out,
            x_ti.shape[0],
            torch.get_num_threads(),
        )
    )
    return y_to if dtype is torch.float32 else y_to.to(dtype)


def _backward(
    grad_to: Tensor,
    x_ti: Tensor,
    values_n: Tensor,
    structure_s: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    types = (x_ti.dtype, values_n.dtype, grad_to.dtype)
    if x_ti.dim() != 2:
        _refuse("activations", x_ti)
    known = sound_matrix(structure_s, row_pointers_o, columns_n, x_ti.shape[1])
    d_out = known.d_out
    require_fit(x_ti, values_n, d_out, known.nnz, None, grad_to)
    x_ti, grad_to, values_n = _by_rows(x_ti), _by_rows(grad_to), _plain(values_n)
    sizes = ((x_ti.shape[0], x_ti.shape[1]), (values_n.shape[0],), (d_out,))
    grads = [x_ti.new_empty(size if need else (0,)) for size, need in zip(sizes, needs, strict=True)]
    matrix = _with_values(known, values_n)
    check(
        known.kernels.backward(
            ctypes.byref(matrix),
            x_ti.data_ptr(),
            x_ti.stride(0),
            grad_to.data_ptr(),
            grad_to.stride(0),
            *(grad.data_ptr() if need else None for grad, need in zip(grads, needs, strict=True)),
            x_ti.shape[0],
            torch.get_num_threads(),
        )
    )
    grad_x, grad_values, grad_bias = (grad.to(dtype) for grad, dtype in zip(grads, types, strict=True))
    return grad_x, grad_values, grad_bias


def plain_gradients(
    grad_to: Tensor,
    x_ti: Tensor,
    values_n: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    needs: list[bool],
) -> list[Tensor | None]:
    """The same gradients by dense products, which autograd can follow."""
    d_out, d_in = row_pointers_o.shape[0] - 1, x_ti.shape[1]
    flat_n = flat_positions(row_pointers_o, columns_n, d_in)
    weight_oi = grad_to.new_zeros(d_out * d_in).scatter(0, flat_n, values_n.to(grad_to.dtype)).view(d_out, d_in)
    grad_values = (grad_to.t() @ x_ti.to(grad_to.dtype)).reshape(-1)[flat_n].to(values_n.dtype)
    grads = ((grad_to @ weight_oi).to(x_ti.dtype), grad_values, grad_to.sum(0))
    return [grad if need else None for grad, need in zip(grads, needs, strict=True)]


def _fake_forward(
    x_ti: Tensor,
    values_n: Tensor,
    structure_s: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    bias_o: Tensor | None,
    start_to: Tensor | None,
) -> Tensor:
    require_one_device(x_ti, values_n, structure_s, row_pointers_o, columns_n, bias_o, start_to)
    d_out = require_shapes(x_ti, values_n, row_pointers_o, columns_n, bias_o, start_to)
    return x_ti.new_empty(x_ti.shape[0], d_out)


def _fake_backward(
    grad_to: Tensor,
    x_ti: Tensor,
    values_n: Tensor,
    structure_s: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    require_one_device(grad_to, x_ti, values_n, structure_s, row_pointers_o, columns_n)
    require_shapes(x_ti, values_n, row_pointers_o, columns_n, None, grad_to)
    sizes = ((x_ti.shape[0], x_ti.shape[1]), (values_n.shape[0],), (grad_to.shape[1],))
    grads = [
        like.new_empty(size if need else (0,))
        for like, size, need in zip((x_ti, values_n, grad_to), sizes, needs, strict=True)
    ]
    return grads[0], grads[1], grads[2]


def require_fit(
    x_ti: Tensor, values_n: Tensor, d_out: int, nnz: int, bias_o: Tensor | None, like_y: Tensor | None
) -> None:
    """Refuse tensors of a product that do not fit together, by their shapes and types alone.

    Args:
        x_ti: activations, two-dimensional.
        values_n: of the support.
        d_out: rows of the support.
        nnz: its entries.
        bias_o: for every output.
        like_y: what has the shape of the product: its start, or its gradient.

    Raises:
        ValueError: names the one.
    """
    if x_ti.dtype not in FLOATS:
        _refuse("activations", x_ti)
    if values_n.dtype not in FLOATS or values_n.shape != (nnz,):
        _refuse("values", values_n)
    if bias_o is not None and (bias_o.shape != (d_out,) or not bias_o.dtype.is_floating_point):
        _refuse("bias", bias_o)
    if like_y is not None and (like_y.shape != (x_ti.shape[0], d_out) or not like_y.dtype.is_floating_point):
        _refuse("start or gradient", like_y)


def require_shapes(
    x_ti: Tensor,
    values_n: Tensor,
    row_pointers_o: Tensor,
    columns_n: Tensor,
    bias_o: Tensor | None,
    like_y: Tensor | None,
) -> int:
    """Number of outputs of a product, of tensors without values; refuses those that do not fit together.

    Args:
        x_ti: activations.
        values_n: of the support.
        row_pointers_o: of the support.
        columns_n: of the support.
        bias_o: for every output.
        like_y: what has the shape of the product.

    Raises:
        ValueError: names the one that does not fit.
    """
    _expect(x_ti.dim() == 2, "activations", x_ti)
    _expect(row_pointers_o.dim() == 1 and row_pointers_o.shape[0] > 1, "row pointers", row_pointers_o)
    _expect(row_pointers_o.dtype in (torch.int32, torch.int64), "row pointers", row_pointers_o)
    _expect(columns_n.dim() == 1 and columns_n.dtype in (torch.uint16, torch.int32), "columns", columns_n)
    d_out = row_pointers_o.shape[0] - 1
    require_fit(x_ti, values_n, d_out, columns_n.shape[0], bias_o, like_y)
    return d_out


def require_one_device(*tensors: Tensor | None) -> None:
    """Refuse tensors of a product that lie on several devices.

    Raises:
        ValueError: names the two.
    """
    devices = {tensor.device for tensor in tensors if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"the kernels cannot take tensors on {' and '.join(sorted(map(str, devices)))} together")


_operators.impl("sparse_linear", _forward, "CPU")
_operators.impl("sparse_linear_backward", _backward, "CPU")
torch.library.register_fake("fallow::sparse_linear", _fake_forward, lib=_operators)
torch.library.register_fake("fallow::sparse_linear_backward", _fake_backward, lib=_operators)


@register_flop_formula(torch.ops.fallow.sparse_linear)
def flops(x_shape: Any, values_shape: Any, *_: Any, **__: Any) -> int:
    """Of a product of tokens with the entries that exist: two for each entry and token."""
    return int(2 * x_shape[0] * values_shape[0])


@register_flop_formula(torch.ops.fallow.sparse_linear_backward)
def _flops_backward(grad_shape: Any, x_shape: Any, values_shape: Any, *rest: Any, **__: Any) -> int:
    needs = rest[3]
    return int(2 * x_shape[0] * values_shape[0] * (needs[0] + needs[1]))


def _with_values(known: SoundMatrix, values_n: Tensor) -> Matrix:
    """The matrix of this call alone; another thread may be in the middle of its own."""
    matrix = Matrix.from_buffer_copy(known.form)
    matrix.values = values_n.data_ptr() or ctypes.addressof(matrix)  # of no values, an address that is not read
    return matrix


def _by_rows(x: Tensor) -> Tensor:
    """A matrix whose rows the kernels can read: fp32, columns side by side, at the address of a float."""
    if x.dtype is torch.float32 and x.is_contiguous():
        return _plain(x)
    _expect(x.is_cpu and x.shape[0] <= _MOST_TOKENS, "activations", x)
    x = x.float().resolve_neg()
    if (x.shape[1] > 1 and x.stride(1) != 1) or x.stride(0) < x.shape[1] or x.data_ptr() % 4:
        return x.clone(memory_format=torch.contiguous_format)
    return x


def _plain(x: Tensor) -> Tensor:
    """The same numbers as the kernels read them: fp32 on the CPU, side by side, at the address of a float."""
    if x.dtype is torch.float32 and x.is_cpu and x.is_contiguous() and not x.is_neg():
        address = x.data_ptr()
        if address and not address % 4:
            return x
    _expect(x.is_cpu and x.layout is torch.strided, "tensors", x)
    return torch.empty(x.shape, dtype=torch.float32).copy_(x)


def _expect(holds: bool, what: str, tensor: Tensor) -> None:
    if not holds:
        _refuse(what, tensor)


def _refuse(what: str, tensor: Tensor) -> NoReturn:
    raise ValueError(
        f"the kernels cannot take these {what} ({tensor.dtype}, {tuple(tensor.shape)}, on {tensor.device})"
    )
