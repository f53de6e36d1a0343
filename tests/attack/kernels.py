"""Random calls of every operator of the kernels, most of them wrong: a right result or an exception, nothing else.

    python -m tests.attack.kernels [CALLS] [SEED]

A call begins with tensors that fit together; then some are replaced: another width, length, type, device or stride,
indices outside the matrix, a structure of another support, nothing at all. What is accepted is compared with a product
in float64, which knows the support by its definition alone. `make sanitize` runs the same calls with kernels that the
sanitizers watch.
"""

import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from fallow.linear import LowRank, ReparamLinear, Site, Sparse, Terms
from fallow.linear.kernels.gpu.block_structure import make_block_structure
from fallow.linear.kernels.gpu.two_four import two_four_linear
from fallow.linear.kernels.operators import one_token, sparse_linear
from fallow.linear.kernels.structure import make_structure
from fallow.linear.paths import why_not
from fallow.random import Key
from fallow.supports import Support, kind_of

Arguments = dict[str, object]
REFUSALS = (ValueError, RuntimeError, TypeError, IndexError, AttributeError, MemoryError)
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def run(num: int, seed: int = 0) -> Counter[str]:
    """Calls by outcome: `right`, `refused`, `wrong`; the wrong ones are printed.

    Args:
        num: calls.
        seed: of the draws.
    """
    draw, counts = random.Random(seed), Counter({"right": 0, "refused": 0, "wrong": 0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(num):
            torch.manual_seed(draw.randrange(1 << 30))
            name = draw.choice(list(_CALLS))
            make, call, expect = _CALLS[name]
            given = make(draw)
            changes = [_change(draw, given) for _ in range(draw.choice((0, 1, 1, 1, 2, 3)))]
            try:
                found = call(given)
            except REFUSALS:
                counts["refused"] += 1
                continue
            outcome = "right" if _agree(found, expect, given) else "wrong"
            counts[outcome] += 1
            if outcome == "wrong":
                print(f"call {number} of seed {seed}: {name} with {', '.join(changes) or 'no change'} is wrong")
    return counts


def _change(draw: random.Random, given: Arguments) -> str:
    """Replace one argument; gives what was done."""
    name = draw.choice(
        [key for key in given if key not in ("needs", "d_out", "scale", "dtype")]
    )  # torch crashes on a dtype that is none
    value = given[name]
    if not isinstance(value, Tensor):
        given[name] = draw.choice((0, 1, 7, 16, 64, -1, torch.zeros(3), None))
        return f"{name} {given[name]!r}"
    if value.numel() > 1 << 20:  # expanded already
        return f"{name} as it is"
    how, change = draw.choice(list(_CHANGES.items()))
    try:
        given[name] = change(draw, value)
    except REFUSALS:  # of what an earlier change has left
        return f"{name} not {how}"
    return f"{name} {how}"


def _other_length(draw: random.Random, x: Tensor) -> Tensor:
    place = draw.randrange(max(1, x.dim()))
    sizes = list(x.shape) or [1]
    sizes[place] = max(0, sizes[place] + draw.choice((-sizes[place], -1, 1, 1000, -sizes[place] + 1)))
    longer = torch.zeros(sizes, dtype=x.dtype)
    return longer.fill_(1) if draw.random() < 0.5 else longer


def _other_indices(draw: random.Random, x: Tensor) -> Tensor:
    if x.dtype.is_floating_point or not x.numel():
        return x
    wide, place = x.to(torch.int64).reshape(-1), draw.randrange(x.numel())
    wide[place] = draw.choice((-1, 0, 65_535, 2**31 - 1, -(2**31), int(wide[place]) + 1, int(wide[place]) - 1))
    if draw.random() < 0.2:
        wide = wide.flip(0)
    return wide.to(x.dtype).view(x.shape)


def _misaligned(_: random.Random, x: Tensor) -> Tensor:
    size = x.numel() * x.element_size()
    bytes_ = torch.zeros(size + 1, dtype=torch.uint8)[1:]
    bytes_.copy_(x.contiguous().reshape(-1).view(torch.uint8) if size else bytes_)
    return torch.frombuffer(bytes_.numpy(), dtype=x.dtype).view(x.shape) if size else x


def _rows_apart(_: random.Random, x: Tensor) -> Tensor:
    apart = torch.zeros(*x.shape[:-1], x.shape[-1] + 3, dtype=x.dtype)[..., : x.shape[-1]] if x.dim() else x
    return apart.copy_(x)


def _every_second(_: random.Random, x: Tensor) -> Tensor:
    return torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)[..., ::2].copy_(x) if x.dim() else x


_TYPES = (*FLOATS, torch.float64, torch.int32, torch.int64, torch.uint16, torch.uint8, torch.bool, torch.complex64)
_CHANGES: dict[str, Callable[[random.Random, Tensor], Tensor]] = {
    "of another length": _other_length,
    "of another type": lambda draw, x: x.to(draw.choice(_TYPES)),
    "without values": lambda _, x: x.to("meta"),
    "with other indices": _other_indices,
    "with rows apart": _rows_apart,
    "with every second place": _every_second,
    "transposed": lambda _, x: x.t().contiguous().t() if x.dim() == 2 else x,
    "with a dimension more": lambda _, x: x[None],
    "with a dimension less": lambda _, x: x.reshape(-1) if x.dim() != 1 else x.sum() if x.is_floating_point() else x,
    "expanded without end": lambda _, x: torch.zeros((), dtype=x.dtype).expand([1 << 31, *x.shape[1:]]),
    "expanded": lambda _, x: x[:1].expand(x.shape) if x.numel() else x,
    "negated lazily": lambda _, x: torch._neg_view(-x) if x.is_floating_point() else x,
    "at an odd address": _misaligned,
    "sparse": lambda _, x: x.to_sparse() if x.is_floating_point() else x,
    "made in inference mode": lambda _, x: _in_inference_mode(x),
}


def _in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


def _support(draw: random.Random, kind: str = "") -> Support:
    kind = kind or draw.choice(("uniform", "uniform", "vector:4"))
    rows, columns = draw.randint(1, 20), draw.choice((1, 7, 40, 300))
    unit = int(kind.partition(":")[2] or 1)
    wide = unit if kind.startswith("block") else 1
    rows, columns = (
        (unit * draw.randint(1, 3), wide * draw.randint(1, 3)) if unit > 1 and wide > 1 else (rows * unit, columns)
    )
    density = draw.choice((0.0, 0.05, 0.3, 1.0)) if kind == "uniform" else draw.choice((0.3, 0.7, 1.0))
    return kind_of(kind).draw((rows, columns), density, Key(draw.randrange(1000), "attack"))


def _sparse(draw: random.Random) -> Arguments:
    support, tokens, dtype = _support(draw), draw.choice((0, 1, 1, 2, 17, 70)), draw.choice(FLOATS)
    d_out, d_in = support.shape
    group = draw.choice((0, 0, 1))
    structure = make_structure(support.shape, support.row_pointers, support.columns, group=group)
    return {
        "x": torch.randn(tokens, d_in).to(dtype),
        "values": torch.randn(support.nnz),
        "structure": structure if draw.random() < 0.5 else structure[:0],
        "pointers": support.row_pointers,
        "columns": support.columns,
        "bias": torch.randn(d_out) if draw.random() < 0.5 else None,
        "start": torch.randn(tokens, d_out) if draw.random() < 0.5 else None,
    }


def _backward(draw: random.Random) -> Arguments:
    given = _sparse(draw)
    del given["bias"], given["start"]
    x, pointers = given["x"], given["pointers"]
    assert isinstance(x, Tensor) and isinstance(pointers, Tensor)
    needs = [draw.random() < 0.7 for _ in range(3)]
    return {"grad": torch.randn(x.shape[0], pointers.numel() - 1).to(x.dtype), **given, "needs": needs}


def _token(draw: random.Random) -> Arguments:
    given = _sparse(draw)
    del given["start"]
    x, pointers, rank = given["x"], given["pointers"], draw.randint(0, 5)
    assert isinstance(x, Tensor) and isinstance(pointers, Tensor)
    factors = {"a": torch.randn(rank, x.shape[1]), "b": torch.randn(pointers.numel() - 1, rank)}
    return {**given, "x": torch.randn(x.shape[1]), **factors, "scale": 0.5}


def _blocks(draw: random.Random) -> Arguments:
    support, size = _support(draw, "block:16"), 16
    x = torch.randn(draw.choice((0, 1, 20)), support.shape[1])
    bias = torch.randn(support.shape[0]) if draw.random() < 0.5 else None
    return {"x": x, "values": torch.randn(support.nnz), "pointers": support.row_pointers, "columns": support.columns,
            "bias": bias, "size": size}  # fmt: skip


def _blocks_backward(draw: random.Random) -> Arguments:
    support, size = _support(draw, "block:16"), 16
    x = torch.randn(draw.choice((0, 1, 20)), support.shape[1])
    structure = make_block_structure(support.shape, support.row_pointers, support.columns, size)
    return {"grad": torch.randn(len(x), support.shape[0]), "x": x, "values": torch.randn(support.nnz),
            "pointers": support.row_pointers, "columns": support.columns, "structure": structure, "size": size,
            "needs": [True, True]}  # fmt: skip


def _weight(draw: random.Random) -> Arguments:
    support, rank = _support(draw), draw.randint(1, 5)
    (d_out, d_in), factors = support.shape, draw.random() < 0.5
    return {"d_out": d_out, "d_in": d_in, "dtype": torch.float32,
            "base": torch.randn(d_out, d_in) if draw.random() < 0.5 else None,
            "a": torch.randn(rank, d_in) if factors else None, "b": torch.randn(d_out, rank) if factors else None,
            "scale": 0.5, "values": torch.randn(support.nnz), "pointers": support.row_pointers,
            "columns": support.columns, "later": None}  # fmt: skip


def _taken(draw: random.Random) -> Arguments:
    support = _support(draw)
    return {"weight": torch.randn(support.shape), "pointers": support.row_pointers, "columns": support.columns,
            "dtype": torch.float32}  # fmt: skip


def _two_four(draw: random.Random) -> Arguments:
    weight = torch.randn(64, 64).view(64, 16, 4)
    weight[:, :, 2:] = 0
    bias = torch.randn(64).bfloat16() if draw.random() < 0.5 else None
    return {"x": torch.randn(3, 64).bfloat16(), "weight": weight.view(64, 64).bfloat16(), "bias": bias}


def _layer(draw: random.Random) -> Arguments:
    path = draw.choice([path for path in ("materialise", "factored", "sparse", "update") if not why_not(path)])
    rank = draw.choice((0, 3))
    low = LowRank(rank=rank, alpha=1.5, key=Key(1, "attack")) if rank else None
    sparse = Sparse(kind=kind_of("uniform"), density=0.3, key=Key(0, "attack"), parts=(24,))
    linear, site = torch.nn.Linear(40, 24), Site("fc", (24, 40), (24,), False)
    layer = ReparamLinear.from_layer(linear, site, Terms(low_rank=low, sparse=sparse), path)
    x = torch.randn(draw.choice(((40,), (1, 40), (5, 40), (2, 3, 40), (0, 40))))
    return {"needs": layer, "x": x}


def _call_layer(given: Arguments) -> Tensor:
    with torch.no_grad():
        found: Tensor = given["needs"](given["x"])  # type: ignore[operator]
    return found


def _direct(given: Arguments) -> Tensor:
    with torch.no_grad():
        return sparse_linear(*given.values())  # type: ignore[arg-type]


def _in_one_call(given: Arguments) -> Tensor:
    with torch.no_grad():
        return one_token(*given.values())  # type: ignore[arg-type]


def _operator(name: str) -> Callable[[Arguments], object]:
    return lambda given: getattr(torch.ops.fallow, name)(*given.values())


def _dense(given: Arguments, d_in: int) -> Tensor:
    """S from its definition, in float64; raises ValueError where there is none."""
    pointers, columns = given["pointers"].tolist(), given["columns"].tolist()  # type: ignore[union-attr]
    values = given["values"].double()  # type: ignore[union-attr]
    if pointers[0] != 0 or pointers[-1] != len(columns) or values.shape != (len(columns),):
        raise ValueError("no support")
    dense = torch.zeros(len(pointers) - 1, d_in, dtype=torch.float64)
    for row, (begin, end) in enumerate(pairwise(pointers)):
        own = columns[begin:end]
        if begin > end or own != sorted(set(own)) or (own and not 0 <= own[0] <= own[-1] < d_in):
            raise ValueError("no support")
        dense[row, own] = values[begin:end]
    return dense


def _expect_product(given: Arguments) -> list[Tensor]:
    x = given["x"].double()  # type: ignore[union-attr]
    x = x.reshape(-1) if "a" in given else x
    y = x @ _dense(given, x.shape[-1]).t()
    for name in ("bias", "start"):
        if given.get(name) is not None:
            y = y + given[name].double()  # type: ignore[union-attr]
    if given.get("a") is not None:
        y = y + 0.5 * (x @ given["a"].double().t()) @ given["b"].double().t()  # type: ignore[union-attr]
    return [y]


def _expect_gradients(given: Arguments) -> list[Tensor]:
    x, grad = given["x"].double(), given["grad"].double()  # type: ignore[union-attr]
    dense = _dense(given, x.shape[1])
    place = _dense({**given, "values": torch.ones(len(given["columns"]))}, x.shape[1]) != 0  # type: ignore[arg-type]
    needs = [*given["needs"]]  # type: ignore[misc]
    found = [grad @ dense, (grad.t() @ x)[place], grad.sum(0)]
    return [g if need else g.new_empty(0) for g, need in zip(found, needs, strict=False)]


def _expect_weight(given: Arguments) -> list[Tensor]:
    weight = _dense(given, int(given["d_in"]))  # type: ignore[call-overload]
    if given["base"] is not None:
        weight = weight + given["base"].double()  # type: ignore[union-attr]
    if given["a"] is not None:
        weight = weight + 0.5 * given["b"].double() @ given["a"].double()  # type: ignore[union-attr]
    return [weight]


def _expect_taken(given: Arguments) -> list[Tensor]:
    weight = given["weight"].double()  # type: ignore[union-attr]
    place = _dense({**given, "values": torch.ones(len(given["columns"]))}, weight.shape[1]) != 0  # type: ignore[arg-type]
    return [weight[place]]


def _expect_two_four(given: Arguments) -> list[Tensor]:
    y = given["x"].double() @ given["weight"].double().t()  # type: ignore[union-attr]
    return [y if given["bias"] is None else y + given["bias"].double()]  # type: ignore[union-attr]


def _expect_layer(given: Arguments) -> list[Tensor]:
    layer = given["needs"]
    assert isinstance(layer, ReparamLinear)
    x = given["x"].double()  # type: ignore[union-attr]
    return [x @ layer.effective_weight().detach().double().t() + layer.bias.detach().double()]  # type: ignore[union-attr]


def _agree(found: object, expect: Callable[[Arguments], list[Tensor]], given: Arguments) -> bool:
    parts = list(found) if isinstance(found, tuple | list) else [found]
    if all(isinstance(value, Tensor) is False or value.is_meta for value in given.values() if value is not None):
        return all(part.is_meta for part in parts if isinstance(part, Tensor))
    try:
        expected = expect(given)
    except Exception:
        return False  # accepted, though there is no such product
    for ours, right in zip(parts, expected, strict=True):
        ours = ours.real if ours.is_complex() else ours  # the imaginary part of such inputs is zero
        narrow = ours.dtype in (torch.bfloat16, torch.float16)
        if ours.shape != right.shape:
            return False
        if not torch.allclose(ours.double(), right, rtol=2e-2 if narrow else 1e-4, atol=0.3 if narrow else 1e-3):
            return False
    return True


_Call = tuple[Callable[[random.Random], Arguments], Callable[[Arguments], object], Callable[[Arguments], list[Tensor]]]
_CALLS: dict[str, _Call] = {
    "sparse_linear": (_sparse, _operator("sparse_linear"), _expect_product),
    "sparse_linear without the dispatcher": (_sparse, _direct, _expect_product),
    "sparse_linear_backward": (_backward, _operator("sparse_linear_backward"), _expect_gradients),
    "one_token": (_token, _in_one_call, _expect_product),
    "block_linear": (_blocks, _operator("block_linear"), _expect_product),
    "block_linear_backward": (_blocks_backward, _operator("block_linear_backward"), _expect_gradients),
    "build_weight": (_weight, _operator("build_weight"), _expect_weight),
    "at_support": (_taken, _operator("at_support"), _expect_taken),
    "two_four_linear": (_two_four, lambda given: two_four_linear(*given.values()), _expect_two_four),  # type: ignore[arg-type]
    "a layer": (_layer, _call_layer, _expect_layer),
}


if __name__ == "__main__":
    outcome = run(int((sys.argv + ["2000"])[1]), int((sys.argv + ["", "0"])[2] or 0))
    print(f"{outcome.total()} calls: {outcome['right']} right, {outcome['refused']} refused, {outcome['wrong']} wrong")
    sys.exit(1 if outcome["wrong"] else 0)
