"""The compiled kernels against float64: every instruction set, kind of support, odd size and number of threads."""

import copy
import pickle
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from fallow.errors import UserError
from fallow.linear import LowRank, ReparamLinear, Site, Sparse, Terms
from fallow.linear.kernels import build
from fallow.linear.kernels import library as loading
from fallow.linear.kernels.operators import sparse_linear
from fallow.linear.kernels.structure import facts_of, make_structure
from fallow.linear.paths import path_of
from fallow.random import Key
from fallow.shortages import ShortageError
from fallow.supports import Support, kind_of
from tests.paths import needs_kernels

pytestmark = needs_kernels
ENGINES = list(loading.library().engines) if loading.library() else []
KINDS = ("uniform", "vector:4", "vector:8", "block:4", "vector:2", "block:6", "1:4")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def support_of(kind: str, rows: int, columns: int, density: float, seed: int) -> Support:
    """Sizes are rounded up to what the kind takes."""
    unit = {"vector:4": (4, 1), "vector:8": (8, 1), "block:4": (4, 4), "vector:2": (2, 1), "block:6": (6, 6)}
    height, width = unit.get(kind, (1, 4) if kind == "1:4" else (1, 1))
    shape = (-(-rows // height) * height, -(-columns // width) * width)
    return kind_of(kind).draw(shape, 0.25 if kind == "1:4" else density, Key(seed, "kernels"))


def results(
    support: Support, values: Tensor, x: Tensor, bias: Tensor, start: Tensor, g: Tensor, structure: Tensor
) -> list[Tensor]:
    """y and the gradients of x, values, bias and start."""
    inputs = [t.clone().requires_grad_() for t in (x, values, bias, start)]
    y = sparse_linear(inputs[0], inputs[1], structure, support.row_pointers, support.columns, inputs[2], inputs[3])
    return [y.detach(), *torch.autograd.grad(y, inputs, g)]


def expected(support: Support, values: Tensor, x: Tensor, bias: Tensor, start: Tensor, g: Tensor) -> list[Tensor]:
    """The same by dense products in float64."""
    weight = torch.zeros(support.shape, dtype=torch.float64)
    weight.view(-1)[support.flat()] = values.double()
    x, g = x.double(), g.double()
    grad_values = (g.t() @ x).reshape(-1)[support.flat()]
    return [x @ weight.t() + bias + start, g @ weight, grad_values, g.sum(0), g]


def operands_of(support: Support, tokens: int, seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    sizes = [(support.nnz,), (tokens, support.shape[1]), (support.shape[0],), (tokens, support.shape[0])]
    values, x, bias, start = (torch.randn(size, generator=draw) for size in sizes)
    return [values, x, bias, start, torch.randn(tokens, support.shape[0], generator=draw)]


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS), rows=st.integers(1, 70), columns=st.integers(1, 420), tokens=st.integers(0, 150),
    density=st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 1.0]), group=st.sampled_from([0, 0, 1, 2, 4]),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_random_shapes_against_float64(
    engine: str, kind: str, rows: int, columns: int, tokens: int, density: float, group: int, seed: int
) -> None:
    support = support_of(kind, rows, columns, density, seed)
    given_ = operands_of(support, tokens, seed)
    group = group if engine == "avx512" else min(group, 1)
    structure = make_structure(support.shape, support.row_pointers, support.columns, engine=engine, group=group)
    torch.set_num_threads(1)
    ours = results(support, *given_, structure)
    for a, b in zip(ours, expected(support, *given_), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-4)
    torch.set_num_threads(2)
    assert all(torch.equal(a, b) for a, b in zip(ours, results(support, *given_, structure), strict=True))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("threads", [1, 2])
def test_without_a_structure_it_is_derived_in_each_pass(
    engine: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(loading.ENVIRONMENT, engine)
    torch.set_num_threads(threads)
    nothing = torch.empty(0, dtype=torch.int32)
    for kind, tokens in (("uniform", 1), ("uniform", 9), ("vector:4", 33), ("block:4", 0), ("uniform", 70)):
        support = support_of(kind, 45, 210, 0.06, tokens)
        given_ = operands_of(support, tokens, tokens)
        kept = make_structure(support.shape, support.row_pointers, support.columns, engine=engine)
        ours = results(support, *given_, nothing)
        for a, b in zip(ours, expected(support, *given_), strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-4)
        assert all(torch.equal(a, b) for a, b in zip(ours[1:], results(support, *given_, kept)[1:], strict=True))
    x, values, backwards = torch.zeros(40, 210), torch.zeros(support.nnz), support.columns.int().flip(0)
    with pytest.raises(ValueError, match="do not ascend, or lie outside"):
        sparse_linear(x, values, nothing, support.row_pointers, backwards.to(torch.uint16))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("rows", "columns", "rank"), [(1, 1, 1), (7, 33, 5), (64, 48, 16), (301, 517, 130)])
def test_one_token_in_one_call(
    engine: str, rows: int, columns: int, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(loading.ENVIRONMENT, engine)
    terms = Terms(
        low_rank=LowRank(rank=rank, alpha=0.75 * rank, key=Key(1)),
        sparse=Sparse(kind=kind_of("uniform"), density=0.3, key=Key(0), parts=(rows,)),
    )
    site = Site("fc", (rows, columns), (rows,), False)
    layer = ReparamLinear.from_layer(nn.Linear(columns, rows), site, terms, "factored")
    nn.init.normal_(layer.low_rank_b)
    assert layer.structure.numel() == 0
    right = layer.effective_weight().detach().double()
    for dtype, bound in ((torch.float32, 2e-4), (torch.bfloat16, 5e-2)):
        x = torch.randn(1, 1, columns).to(dtype)
        with torch.no_grad():
            y = layer(x)
            with FlopCounterMode(display=False) as counter:
                seen = layer(x)
        assert y.dtype == dtype and y.shape == (1, 1, rows)
        torch.testing.assert_close(y.double(), x.double() @ right.t() + layer.bias.double(), rtol=bound, atol=bound)
        torch.testing.assert_close(y, seen, rtol=bound, atol=bound)
        assert counter.get_total_flops() == 2 * (rank * (rows + columns) + layer.values.numel())


def test_a_support_decides_how_it_is_walked() -> None:
    def facts(kind: str, density: float) -> tuple[bool, int]:
        support = support_of(kind, 48, 96, density, 0)
        found = facts_of(make_structure(support.shape, support.row_pointers, support.columns, engine=ENGINES[-1]))
        return found.shared, found.group

    assert facts("vector:4", 0.25) == facts("block:4", 0.25) == facts("vector:8", 0.25) == (True, 4)
    assert not facts("uniform", 0.25)[0] and not facts("vector:2", 0.25)[0]
    assert facts("uniform", 0.05) == (False, 1)
    if ENGINES[-1] == "avx512":
        assert facts("uniform", 0.25) == (False, 2) and facts("uniform", 0.5) == (False, 4)


def test_tensors_that_are_not_laid_out_plainly() -> None:
    support = support_of("uniform", 20, 50, 0.3, 1)
    values, x, bias, start, g = operands_of(support, 37, 1)
    structure = make_structure(support.shape, support.row_pointers, support.columns)
    plain = results(support, values, x, bias, start, g, structure)
    storage = torch.zeros(x.numel() * 2 + 1)
    shifted = storage[1 : x.numel() + 1].view(x.shape)  # four bytes off every alignment
    shifted.copy_(x)
    rows_apart = torch.zeros(37, 64)[:, :50]
    rows_apart.copy_(x)
    transposed = x.t().contiguous().t()
    every_second = torch.zeros(37, 100)[:, ::2]
    every_second.copy_(x)
    for form in (shifted, rows_apart, transposed, every_second):
        assert all(
            torch.equal(a, b)
            for a, b in zip(plain, results(support, values, form, bias, start, g, structure), strict=True)
        )
    one = torch.ones(1, 20).expand(37, 20)  # as the gradient of a sum comes
    for a, b in zip(
        results(support, values, x, bias, start, one, structure),
        expected(support, values, x, bias, start, one),
        strict=True,
    ):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-4)


def test_only_the_gradients_that_are_wanted() -> None:
    support = support_of("uniform", 20, 50, 0.3, 1)
    values, x, bias, _, g = operands_of(support, 10, 1)
    structure = make_structure(support.shape, support.row_pointers, support.columns)
    rest = (structure, support.row_pointers, support.columns)
    whole = results(support, *operands_of(support, 10, 1), structure)
    values.requires_grad_()
    (only,) = torch.autograd.grad(sparse_linear(x, values, *rest), [values], g)
    assert torch.equal(only, whole[2])
    (only,) = torch.autograd.grad(sparse_linear(x.requires_grad_(), values.detach(), *rest), [x], g)
    assert torch.equal(only, whole[1])
    (only,) = torch.autograd.grad(sparse_linear(x.detach(), values.detach(), *rest, bias.requires_grad_()), [bias], g)
    assert torch.equal(only, whole[3])


def test_what_does_not_fit_is_refused() -> None:
    support, other = support_of("uniform", 20, 50, 0.3, 1), support_of("uniform", 20, 50, 0.3, 2)
    wide = support_of("uniform", 20, 60, 0.25, 1)
    values, x, *_ = operands_of(support, 4, 0)
    structure = make_structure(support.shape, support.row_pointers, support.columns)
    pointers, columns = support.row_pointers, support.columns
    assert wide.nnz == support.nnz == other.nnz
    with pytest.raises(ValueError, match="another support"):
        sparse_linear(torch.randn(4, 60), values, structure, wide.row_pointers, wide.columns)
    with pytest.raises(ValueError, match="another support"):
        sparse_linear(x, values, structure[:100], pointers, columns)
    with pytest.raises(ValueError, match="values"):
        sparse_linear(x, values[1:], structure, pointers, columns)
    with pytest.raises(ValueError, match="values"):
        sparse_linear(x, values.double(), structure, pointers, columns)
    with pytest.raises(ValueError, match="activations"):
        sparse_linear(x.double(), values, structure, pointers, columns)
    with pytest.raises(ValueError, match="bias"):
        sparse_linear(x, values, structure, pointers, columns, torch.randn(19))
    with pytest.raises(ValueError, match="start"):
        sparse_linear(x, values, structure, pointers, columns, None, torch.randn(4, 19))


@pytest.mark.parametrize(
    ("pointers", "columns"),
    [
        ([0, 2, 4], [0, 9, 1, 2]),  # outside
        ([0, 2, 4], [1, 0, 1, 2]),  # not ascending
        ([0, 2, 4], [1, 1, 1, 2]),  # twice
        ([0, 5, 4], [0, 1, 1, 2]),  # pointers fall
        ([1, 2, 4], [0, 1, 1, 2]),  # do not begin at 0
    ],
)
def test_unsound_supports_are_refused(pointers: list[int], columns: list[int]) -> None:
    with pytest.raises(ValueError, match="not sound"):
        make_structure((2, 8), torch.tensor(pointers, dtype=torch.int32), torch.tensor(columns).to(torch.uint16))


def test_supports_beyond_16_bits_are_left_to_another_path() -> None:
    site = Site("wide", (2, 70_000), (2,), False)
    support = Sparse(kind=kind_of("uniform"), density=0.01, key=Key(0), parts=(2,))
    layer = ReparamLinear.from_layer(nn.Linear(70_000, 2), site, Terms(sparse=support), "sparse")
    assert layer.structure is None
    x = torch.randn(3, 70_000)
    torch.testing.assert_close(layer(x), x @ layer.effective_weight().t() + layer.bias, rtol=1e-4, atol=1e-4)


def layer_of(kind: str = "uniform") -> ReparamLinear:
    support = Sparse(kind=kind_of(kind), density=0.25, key=Key(0), parts=(24,))
    return ReparamLinear.from_layer(
        nn.Linear(40, 24), Site("fc", (24, 40), (24,), False), Terms(sparse=support), "sparse"
    )


def test_copies_pickles_and_types() -> None:
    layer, x = layer_of(), torch.randn(5, 40)
    assert layer.structure is not None
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin.structure, layer.structure) and torch.equal(twin(x), layer(x))
    assert b"structure" not in b"".join(k.encode() for k in layer.state_dict())
    assert torch.equal(layer.double().float()(x), layer(x))
    assert copy.deepcopy(layer).to("meta").structure is None


def test_the_operators_are_whole() -> None:
    layer, x = layer_of(), torch.randn(5, 40)
    support = (layer.structure, layer.row_pointers, layer.columns)
    values, bias = layer.values.detach(), layer.bias.detach()
    torch.library.opcheck(torch.ops.fallow.sparse_linear, (x, values, *support, bias, None))
    grad = torch.randn(5, 24)
    torch.library.opcheck(torch.ops.fallow.sparse_linear_backward, (grad, x, values, *support, [True, False, True]))


def test_compiled_and_checkpointed() -> None:
    """One graph forward and back, and the same numbers when the forward pass is done again."""
    torch._dynamo.reset()
    layer = layer_of("vector:4")

    def grads(compute: Callable[[Tensor], Tensor]) -> list[Tensor]:
        x = torch.linspace(-1, 1, 200).view(5, 40).requires_grad_()
        return list(torch.autograd.grad(compute(x).square().sum(), [x, layer.values, layer.bias]))

    plain = grads(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    again = partial(checkpoint, layer, use_reentrant=False)
    for compute in (compiled, again):
        assert all(torch.equal(a, b) for a, b in zip(plain, grads(compute), strict=True))


def test_operations_are_counted() -> None:
    layer, x = layer_of("vector:4"), torch.randn(7, 40, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layer(x).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 7 * layer.values.numel()


@pytest.mark.parametrize("tokens", [1, 3, 16, 33])
def test_few_tokens(tokens: int) -> None:
    support = support_of("uniform", 300, 700, 0.3, 5)  # enough entries for one token to be shared out
    given_ = operands_of(support, tokens, 5)
    structure = make_structure(support.shape, support.row_pointers, support.columns)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for a, b in zip(results(support, *given_, structure), expected(support, *given_), strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-3)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(loading.ENVIRONMENT, "off")
    assert loading.library() is None and loading.missing() == "FALLOW_KERNELS=off"
    with pytest.raises(UserError, match="FALLOW_KERNELS=off"):
        path_of("sparse")
    monkeypatch.setenv(loading.ENVIRONMENT, "sse9")
    assert "this processor has portable" in loading.missing()
    monkeypatch.setenv(loading.ENVIRONMENT, "portable")
    assert facts_of(layer_of().structure).engine == "portable"


def test_a_library_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "checksum", lambda: "another")
    with pytest.raises(OSError, match="built from other sources"):
        loading.Library()
    assert not build.is_current()


def test_a_compiler_that_fails_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(build.BuildError, match="the compiler failed"):
        build.build(tmp_path / "library.so")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "")
    with pytest.raises(build.BuildError, match="no C\\+\\+ compiler was found"):
        build.build(tmp_path / "library.so")
    assert not list(tmp_path.iterdir())


def test_rows_of_one_block_longer_than_a_rank() -> None:
    """A row with 65,536 entries: groups of two would need ranks of 17 bits."""
    pointers = np.array([0, 65_536, 65_537], dtype=np.int32)
    columns = np.concatenate([np.arange(65_536), [3]]).astype(np.uint16)
    support = Support((2, 65_536), torch.from_numpy(pointers), torch.from_numpy(columns))
    given_ = operands_of(support, 17, 0)
    structure = make_structure(support.shape, support.row_pointers, support.columns)
    for a, b in zip(results(support, *given_, structure), expected(support, *given_), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=2e-3)


def test_a_shortage_while_the_library_loads_is_told_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths would else be chosen, and written down, as if this machine had no kernels."""
    before = loading.library()
    monkeypatch.setenv(loading.ENVIRONMENT, next(iter(before.engines)) if before else "portable")
    with monkeypatch.context() as patch:
        patch.setattr("ctypes.CDLL", short_of_memory)
        loading._load.cache_clear()
        with pytest.raises(ShortageError, match="memory is used up while loading"):
            loading.library()
    assert (loading.library() is None) == (before is None)
    loading._load.cache_clear()


def short_of_memory(path: str) -> None:
    raise OSError(f"{path}: failed to map segment from shared object: Cannot allocate memory")
