"""The path `semi_structured`: its logic beside float64, with torch's 2:4 kernels emulated where there is no GPU."""

import sys

import pytest
import torch

from fallow.errors import UserError
from fallow.linear import LowRank, ReparamLinear, Terms
from fallow.linear.kernels.gpu import available, two_four
from fallow.linear.kernels.gpu.two_four import two_four_linear
from fallow.linear.paths import path_of
from fallow.linear.paths.fits import unfit
from fallow.random import Key
from tests.linear.gpu import DEVICE, activations, compare, make
from tests.paths import needs_triton

CASES = {
    "square": {"shape": (64, 64), "dtype": torch.bfloat16},
    "wide": {"shape": (64, 128)},
    "fused parts": {"shape": (64, 64), "parts": (32, 16, 16)},
    "beside factors": {"shape": (64, 64), "rank": 3},
}


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The path acts here, and the shapes of the matrices that it gives to the 2:4 kernels are in the list."""
    seen: list[tuple[int, ...]] = []

    def noted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        seen.append(tuple(weight.shape))
        return two_four_linear(x, weight, bias)

    module = sys.modules["fallow.linear.paths.semi_structured"]  # in its package the name is that of the function
    monkeypatch.setattr(module, "two_four_linear", noted)
    if DEVICE == "cpu":
        monkeypatch.setattr(two_four, "missing", lambda: "")
        monkeypatch.setattr(module, "_takes", lambda x: x.dtype in two_four.NARROW and x.numel() > 0)
    elif two_four.missing():
        pytest.skip(two_four.missing())
    return seen


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_and_gradients_equal_float64(case: dict, used: list[tuple[int, ...]]) -> None:
    case = {"dtype": torch.float16, **case}
    dtype = case.pop("dtype")
    layer = make("semi_structured", kind="transposable", density=0.5, dtype=dtype, **case)
    compare(layer, activations(2, 5, layer.in_features, dtype=dtype))
    d_out, d_in = case["shape"]
    assert used == [(d_out, d_in), (d_in, d_out)]


def test_fp32_goes_by_plain_operations(used: list[tuple[int, ...]]) -> None:
    compare(make("semi_structured", (64, 64), kind="transposable", density=0.5), activations(4, 64))
    assert not used


def test_without_triton(used: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "missing", lambda: "triton is not installed")
    layer = make("semi_structured", (64, 64), kind="transposable", density=0.5, dtype=torch.bfloat16)
    compare(layer, activations(4, 64, dtype=torch.bfloat16))
    assert len(used) == 2


def test_nothing_dense_is_kept_for_backward(used: list[tuple[int, ...]]) -> None:
    layer, kept = make("semi_structured", (64, 128), kind="transposable", density=0.5, dtype=torch.bfloat16), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        layer(activations(5, 128, dtype=torch.bfloat16))
    own = {t.data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    assert used and max(t.numel() for t in kept if t.data_ptr() not in own) == 5 * 128


def test_a_matrix_that_is_not_two_of_four_loses_entries() -> None:
    """The emulation is no dense product in disguise."""
    full, kept = torch.tensor([[1.0, -3.0, 0.0, 2.0]]), torch.tensor([[0.0, -3.0, 0.0, 2.0]])
    assert torch.equal(two_four._emulated(torch.eye(4), full, None), kept.t())
    weight = make("materialise", (64, 64), kind="transposable", density=0.5).effective_weight()
    for matrix in (weight, weight.t().contiguous()):
        torch.testing.assert_close(two_four._emulated(torch.eye(64).to(weight), matrix, None), matrix.t())
    rows_alone = make("materialise", (64, 64), kind="2:4", density=0.5).effective_weight().t().contiguous()
    assert not torch.allclose(two_four._emulated(torch.eye(64).to(weight), rows_alone, None), rows_alone.t())


def test_gradients_of_gradients(used: list[tuple[int, ...]]) -> None:
    layer = make("semi_structured", (64, 64), kind="transposable", density=0.5, dtype=torch.bfloat16)
    x = activations(4, 64, dtype=torch.bfloat16)
    first = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), layer.values)[0]
    layer.double()
    x = x.detach().double().requires_grad_()
    first = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)[0]
    expected = torch.autograd.grad(first.sum(), layer.values)[0]
    torch.testing.assert_close(second.double(), expected, rtol=0, atol=0.05 * float(expected.abs().max()))


@needs_triton
def test_torch_knows_the_operator() -> None:
    weight = make("materialise", (64, 64), kind="transposable", density=0.5, dtype=torch.bfloat16).effective_weight()
    arguments = (activations(8, 64, dtype=torch.bfloat16).detach(), weight.detach(), None)
    if DEVICE == "cpu" or not two_four.missing():
        checks = ("test_schema", "test_faketensor")
        torch.library.opcheck(torch.ops.fallow.two_four_linear, arguments, test_utils=checks)


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("2:4", (64, 64), "2:4 in rows and in columns: transposable"),
        ("uniform", (64, 64), "2:4 in rows and in columns: transposable"),
        ("transposable", (64, 96), "multiples of 64 rows and columns, and this matrix has 64 and 96"),
    ],
)
def test_layers_that_do_not_fit(kind: str, shape: tuple[int, int], message: str) -> None:
    layer = make("materialise", shape, kind=kind, density=0.5)
    assert message in unfit("semi_structured", layer.terms, shape)


def test_a_layer_without_entries_does_not_fit(used: list[tuple[int, ...]]) -> None:
    terms = Terms(low_rank=LowRank(rank=2, alpha=1.0, key=Key(0)))
    site = make("materialise", (64, 64), rank=2).site
    with pytest.raises(UserError, match=r"path semi_structured cannot compute fc: .* Or write path: materialise"):
        ReparamLinear.from_layer(torch.nn.Linear(64, 64), site, terms, "semi_structured")


@pytest.mark.parametrize(
    ("capability", "cusparselt", "reason"),
    [
        ((7, 5), True, "has no sparse tensor cores"),
        ((8, 0), False, ""),
        ((9, 0), False, "built without cuSPARSELt"),
        ((9, 0), True, ""),
    ],
)
def test_why_there_are_no_such_kernels(
    capability: tuple[int, int], cusparselt: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: cusparselt)
    found = two_four.missing()
    assert reason in found and bool(found) == bool(reason)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu() -> None:
    with pytest.raises(UserError, match="path semi_structured cannot be used here: it is for GPUs: no CUDA device"):
        path_of("semi_structured")
