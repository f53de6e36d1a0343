"""The path `fused`: W built by a Triton kernel, against float64."""

import pytest
import torch

from fallow.errors import UserError
from fallow.linear import Base
from fallow.linear.kernels.gpu import available
from fallow.linear.kernels.gpu.operators import at_support, build_weight
from fallow.linear.paths import path_of
from tests.linear.gpu import DEVICE, activations, compare, make
from tests.paths import needs_triton

TYPES = [torch.float32, torch.float16, torch.bfloat16]

TERMS = {
    "sparse": {"density": 0.3},
    "sparse, rows longer than a chunk": {"density": 0.9, "shape": (3, 1200)},
    "sparse, full": {"density": 1.0, "shape": (17, 5)},
    "sparse, all but empty": {"density": 0.004, "shape": (40, 33)},
    "low rank": {"rank": 5},
    "low rank + sparse": {"density": 0.1, "rank": 3},
    "low rank + sparse, several tiles": {"density": 0.05, "rank": 40, "shape": (70, 300)},
    "one number": {"density": 1.0, "rank": 1, "shape": (1, 1)},
    "base + sparse": {"base": Base(), "density": 0.2},
    "frozen base + low rank + sparse": {"base": Base(trainable=False), "rank": 2, "density": 0.1},
    "factors for some rows": {"base": Base(trainable=False), "rank": 2, "rows": ((0, 8), (16, 20)), "density": 0.1},
    "2:4": {"density": 0.5, "kind": "2:4"},
    "block:4": {"density": 0.25, "kind": "block:4"},
    "fused parts": {"density": 0.25, "parts": (8, 8, 8)},
}

NARROW_TOO = ("sparse", "low rank + sparse", "one number", "base + sparse", "factors for some rows")
"""The others differ by how entries are found, which no type changes."""


@needs_triton
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in TERMS for dtype in TYPES if dtype is torch.float32 or name in NARROW_TOO],
    ids=str,
)
def test_outputs_and_gradients_equal_float64(name: str, dtype: torch.dtype) -> None:
    terms = {"shape": (24, 40), **TERMS[name]}
    layer = make("fused", terms.pop("shape"), dtype=dtype, **terms)
    compare(layer, activations(2, 3, layer.in_features, dtype=dtype))


@needs_triton
def test_the_kernels_are_what_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above would hold for `materialise` alone."""
    from fallow.linear.kernels.gpu import weight

    layer, called = make("fused", (24, 40), density=0.3), []
    for name in ("build", "take"):
        kept = getattr(weight, name)
        monkeypatch.setattr(weight, name, lambda *args, name=name, kept=kept: (called.append(name), kept(*args))[1])
    layer(activations(3, 40)).sum().backward()
    assert called == ["build", "build", "take"]


@needs_triton
def test_columns_above_32_767_and_above_65_536() -> None:
    """16-bit columns are read as signed numbers; wider matrices have 32-bit ones."""
    for d_in in (40_000, 70_000):
        layer = make("fused", (2, d_in), density=0.001)
        assert layer.columns.dtype == (torch.uint16 if d_in < 65_536 else torch.int32)
        assert int(layer.columns.to(torch.int64).max()) > 32_768
        operands = layer.operands()
        weight = build_weight(operands, torch.float32)
        torch.testing.assert_close(weight, layer.effective_weight(), rtol=0, atol=0)
        assert torch.equal(at_support(weight, operands), layer.values)


@needs_triton
def test_mixed_types_under_autocast() -> None:
    layer = make("fused", (24, 40), density=0.3, rank=3)
    stock, x = layer.merge(), activations(10, 40)
    with torch.autocast(DEVICE, torch.bfloat16):
        ours, theirs = layer(x), stock(x)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=2e-2, atol=2e-2)
    ours.float().sum().backward()
    assert layer.values.grad.dtype == layer.low_rank_a.grad.dtype == torch.float32


@needs_triton
def test_torch_knows_the_operators() -> None:
    operands = make("fused", (24, 40), density=0.3, rank=3)
    tensors = [t if t is None else t.detach() for t in operands.operands()[1:4]]
    support = [operands.values.detach(), operands.row_pointers, operands.columns]
    torch.library.opcheck(
        torch.ops.fallow.build_weight, (24, 40, torch.bfloat16, *tensors, 0.5, *support, None), test_utils=CHECKS
    )
    weight = operands.effective_weight().detach()
    torch.library.opcheck(torch.ops.fallow.at_support, (weight, *support[1:], torch.float32), test_utils=CHECKS)


CHECKS = ("test_schema", "test_faketensor")


@needs_triton
def test_what_they_do_not_take_goes_by_plain_operations() -> None:
    layer = make("fused", (24, 40), density=0.3)
    assert layer(torch.randn(0, 40, device=DEVICE)).shape == (0, 24)
    compare(layer.double().float(), activations(4, 40))
    assert layer.double()(torch.randn(2, 40, device=DEVICE).double()).dtype == torch.float64
    compare(make("fused", (8, 8), density=0.0, rank=2), activations(4, 8))


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    available._missing.cache_clear()
    with pytest.raises(
        UserError, match=r"path fused cannot be used here: it is for GPUs: .*Or write path: materialise"
    ):
        path_of("fused")
    available._missing.cache_clear()
