"""The layer on its own: every path against float64 autograd, and what it keeps in memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fallow.errors import UserError
from fallow.linear import Base, LowRank, ReparamLinear, Site, Sparse, Terms
from fallow.linear.paths import why_not
from fallow.random import Key
from fallow.supports import Uniform
from tests.paths import ANY_SUPPORT, every_path

COMBINATIONS = {
    "sparse": {"density": 0.25},
    "low rank": {"rank": 3},
    "sparse + low rank": {"density": 0.1, "rank": 3},
    "frozen base + low rank": {"base": Base(trainable=False), "rank": 3},
    "frozen base + low rank + sparse": {"base": Base(trainable=False), "rank": 3, "density": 0.1},
    "base + low rank + sparse": {"base": Base(), "rank": 2, "density": 0.1},
    "base": {"base": Base()},
}


def make(
    d_out: int, d_in: int, path: str, *, base: Base | None = None, rank: int = 0, density: float | None = None
) -> ReparamLinear:
    terms = Terms(
        base=base,
        low_rank=LowRank(rank=rank, alpha=2.0, key=Key(1, "a")) if rank else None,
        sparse=None if density is None else Sparse(kind=Uniform(), density=density, key=Key(0), parts=(d_out,)),
    )
    layer = ReparamLinear.from_layer(nn.Linear(d_in, d_out), Site("fc", (d_out, d_in), (d_out,), False), terms, path)
    if layer.low_rank_b is not None:
        nn.init.normal_(layer.low_rank_b, generator=torch.Generator().manual_seed(0))
    return layer


def reference(layer: ReparamLinear, x: Tensor) -> Tensor:
    """x W^T + b with W put together here, entry by entry, by other means than the layer's."""
    weight = torch.zeros(layer.out_features, layer.in_features, dtype=x.dtype)
    if layer.base is not None:
        weight = weight + layer.base
    if layer.low_rank_a is not None and layer.low_rank_b is not None and layer.terms.low_rank is not None:
        scale = layer.terms.low_rank.alpha / layer.terms.low_rank.rank
        weight = weight + scale * torch.einsum("or,ri->oi", layer.low_rank_b, layer.low_rank_a)
    if layer.support is not None and layer.values is not None:
        flat = layer.support.flat()
        rows, columns = flat // layer.in_features, flat % layer.in_features
        weight = weight.index_put((rows, columns), layer.values, accumulate=True)
    y = torch.einsum("...i,oi->...o", x, weight)
    return y if layer.bias is None else y + layer.bias


@every_path
@pytest.mark.parametrize("terms", COMBINATIONS.values(), ids=COMBINATIONS)
def test_outputs_and_gradients_equal_autograd_in_float64(path: str, terms: dict) -> None:
    layer = make(24, 40, path, **terms).double()
    x = torch.randn(3, 7, 40, dtype=torch.float64, requires_grad=True)
    inputs = [x, *(p for p in layer.parameters() if p.requires_grad)]
    y, expected = layer(x), reference(layer, x)
    direction = torch.randn_like(y)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(y, inputs, direction), torch.autograd.grad(expected, inputs, direction), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
    torch.testing.assert_close(layer.effective_weight(), reference_weight(layer), rtol=0, atol=1e-12)


def reference_weight(layer: ReparamLinear) -> Tensor:
    bias, layer.bias = layer.bias, None
    weight = reference(layer, torch.eye(layer.in_features, dtype=torch.float64)).t()
    layer.bias = bias
    return weight


@settings(deadline=None, max_examples=25)
@given(
    d_out=st.integers(1, 33),
    d_in=st.integers(1, 33),
    tokens=st.integers(0, 20),
    density=st.floats(0, 1),
    path=st.sampled_from([name for name in ANY_SUPPORT if not why_not(name)]),
)
def test_odd_sizes(d_out: int, d_in: int, tokens: int, density: float, path: str) -> None:
    layer = make(d_out, d_in, path, density=density).double()
    x = torch.randn(tokens, d_in, dtype=torch.float64, requires_grad=True)
    layer(x).square().sum().backward()
    ours = [x.grad, layer.values.grad]
    x.grad = layer.values.grad = None
    reference(layer, x).square().sum().backward()
    for a, b in zip(ours, [x.grad, layer.values.grad], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@every_path
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_of_gradients(path: str, dtype: torch.dtype) -> None:
    """In float32 the kernels act, where there are any."""
    layer = make(10, 14, path, rank=3, density=0.3).to(dtype)
    x = torch.randn(4, 14, dtype=dtype, requires_grad=True)
    inputs = [x, *layer.parameters()]

    def second(y: Tensor) -> tuple[Tensor, ...]:
        firsts = torch.autograd.grad(y.pow(3).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(first.square().sum() for first in firsts), inputs)

    for ours, theirs in zip(second(layer(x)), second(reference(layer, x)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9 if dtype is torch.float64 else 1e-3, atol=1e-3)


@every_path
def test_functions_of_torch_transform_it(path: str) -> None:
    """Gradients of each sample, as torch.func gives them."""
    layer = make(10, 14, path, rank=3, density=0.3)
    x, own = torch.randn(5, 14), {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (one,)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(own, x)
    for number in range(5):
        layer.zero_grad()
        reference(layer, x[number]).square().sum().backward()
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(found[name][number], parameter.grad, rtol=1e-4, atol=1e-4)


@every_path
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_nothing_dense_is_kept_for_backward(path: str, compiled: bool) -> None:
    layer = make(96, 160, path, density=0.25, rank=4)
    call = torch.compile(layer, fullgraph=True) if compiled else layer
    x = torch.randn(5, 160, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        y = call(x)
    own = {t.data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    assert max(t.numel() for t in kept if t.data_ptr() not in own) <= 0.25 * 96 * 160
    y.sum().backward()
    gradient = layer.values.grad.clone()
    layer.values.grad = None
    reference(layer, x).sum().backward()
    torch.testing.assert_close(gradient, layer.values.grad, rtol=1e-4, atol=1e-4)


@every_path
def test_autocast_acts_as_on_a_stock_layer(path: str) -> None:
    layer = make(32, 48, path, density=0.5)
    stock = layer.merge()
    x = torch.randn(10, 48)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = layer(x), stock(x)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=2e-2, atol=2e-2)
    ours.float().sum().backward()
    assert layer.values.grad.dtype == torch.float32


@every_path
def test_checkpointing_changes_nothing(path: str) -> None:
    layer = make(16, 24, path, density=0.3, rank=2)
    x = torch.randn(4, 24, requires_grad=True)
    layer(x).square().sum().backward()
    plain = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    checkpoint(layer, x, use_reentrant=False).square().sum().backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(plain, layer.parameters(), strict=True))


def test_meta_device_construction() -> None:
    site = Site("fc", (24, 40), (24,), False)
    terms = Terms(sparse=Sparse(kind=Uniform(), density=0.25, key=Key(0), parts=(24,)))
    layer = ReparamLinear.from_layer(nn.Linear(40, 24, device="meta"), site, terms)
    assert layer.values.is_meta and layer.columns.is_meta and layer.nnz == 240
    assert layer(torch.empty(3, 40, device="meta")).shape == (3, 24)
    layer.to_empty(device="cpu")
    layer.draw_support()
    real = ReparamLinear.from_layer(nn.Linear(40, 24), site, terms)
    assert layer.support.digest() == real.support.digest()


def test_alpha_is_not_folded_into_a() -> None:
    layer = make(8, 8, "materialise", rank=2)
    assert layer.low_rank_a.abs().max() <= 1 / 8**0.5
    assert not any("scaled" in name for name, _ in layer.named_buffers())


def test_bad_terms_are_refused() -> None:
    with pytest.raises(UserError, match="at least one term"):
        Terms()
    with pytest.raises(UserError, match="rank is 0"):
        LowRank(rank=0, alpha=1.0, key=Key(0))
    with pytest.raises(UserError, match='Did you mean "factored"'):
        make(4, 4, "factorized", density=0.5)
