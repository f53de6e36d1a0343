"""Layers for the tests of GPU paths: on a GPU where there is one, else on the CPU by Triton's interpreter."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fallow.linear import Base, LowRank, ReparamLinear, Site, Sparse, Terms
from fallow.random import Key
from fallow.supports import kind_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

TOLERANCE = {torch.float32: 2e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
"""Largest difference from float64, in the largest number."""


def make(
    path: str,
    shape: tuple[int, int],
    *,
    kind: str = "uniform",
    density: float | None = None,
    rank: int = 0,
    rows: tuple[tuple[int, int], ...] = (),
    base: Base | None = None,
    parts: Sequence[int] = (),
    dtype: torch.dtype = torch.float32,
) -> ReparamLinear:
    d_out, d_in = shape
    parts = tuple(parts) or (d_out,)
    terms = Terms(
        base=base,
        low_rank=LowRank(rank=rank, alpha=2.0, key=Key(1, "a"), rows=rows) if rank else None,
        sparse=None if density is None else Sparse(kind=kind_of(kind), density=density, key=Key(0), parts=parts),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stock = nn.Linear(d_in, d_out)
    layer = ReparamLinear.from_layer(stock, Site("fc", shape, parts, False), terms, path)
    if layer.low_rank_b is not None:
        nn.init.normal_(layer.low_rank_b, generator=torch.Generator().manual_seed(0))
    return layer.to(DEVICE, dtype)


def compare(layer: ReparamLinear, x: Tensor) -> None:
    """Output and gradients beside those of the same layer in float64, by torch's own autograd through W."""
    grad = torch.randn(*x.shape[:-1], layer.out_features, generator=torch.Generator().manual_seed(2)).to(x)
    found = results(layer, layer(x), x, grad)
    tolerance = TOLERANCE[x.dtype]
    layer.double()
    wide_x = x.detach().double().requires_grad_()
    y = torch.nn.functional.linear(wide_x, layer.effective_weight(), layer.bias)
    for name, expected in results(layer, y, wide_x, grad.double()).items():
        assert found[name].shape == expected.shape and found[name].dtype == x.dtype, name
        size = expected.abs().max().item() if expected.numel() else 0.0
        torch.testing.assert_close(found[name].double(), expected, rtol=0, atol=tolerance * size, msg=name)


def results(layer: ReparamLinear, y: Tensor, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    names = ["x", *(name for name, p in layer.named_parameters() if p.requires_grad)]
    inputs = [x, *(p for p in layer.parameters() if p.requires_grad)]
    return {"y": y.detach(), **dict(zip(names, torch.autograd.grad(y, inputs, grad), strict=True))}


def activations(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    return x.to(DEVICE, dtype).requires_grad_()
