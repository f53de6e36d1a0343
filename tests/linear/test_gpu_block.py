"""The path `block`: products of the blocks that exist by Triton kernels, against float64."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import fallow
from fallow.errors import UserError
from fallow.linear import Base
from fallow.linear.kernels.gpu.block_structure import block_structure_bytes, make_block_structure
from tests.linear.gpu import DEVICE, activations, compare, make
from tests.paths import needs_triton

CASES = {
    "16": {"kind": "block:16", "shape": (32, 48), "density": 0.5},
    "16, a column and a row without blocks": {"kind": "block:16", "shape": (64, 64), "density": 0.13},
    "16, all blocks": {"kind": "block:16", "shape": (16, 32), "density": 1.0},
    "32, wide": {"kind": "block:32", "shape": (32, 160), "density": 0.4},
    "64, tall": {"kind": "block:64", "shape": (192, 64), "density": 0.7},
    "128": {"kind": "block:128", "shape": (128, 256), "density": 0.5},
    "fused parts": {"kind": "block:16", "shape": (48, 32), "density": 0.5, "parts": (16, 16, 16)},
    "beside factors": {"kind": "block:16", "shape": (32, 32), "density": 0.5, "rank": 3},
    "on a base": {"kind": "block:16", "shape": (32, 32), "density": 0.5, "base": Base()},
}


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_and_gradients_equal_float64(case: dict, dtype: torch.dtype) -> None:
    layer = make("block", dtype=dtype, **case)
    assert layer.structure is not None and layer.operands().block
    compare(layer, activations(19, layer.in_features, dtype=dtype))


@needs_triton
@pytest.mark.parametrize("tokens", [1, 16, 150])
def test_any_number_of_tokens(tokens: int) -> None:
    compare(make("block", (32, 48), kind="block:16", density=0.5), activations(1, tokens, 48))


@needs_triton
def test_activations_that_are_not_contiguous() -> None:
    compare(make("block", (32, 16), kind="block:16", density=0.5), activations(16, 9).detach().t().requires_grad_())


@needs_triton
def test_the_kernels_are_what_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from fallow.linear.kernels.gpu import blocks

    layer, called = make("block", (32, 48), kind="block:16", density=0.5), []
    for name in ("product", "gradients"):
        kept = getattr(blocks, name)
        monkeypatch.setattr(blocks, name, lambda *args, name=name, kept=kept: (called.append(name), kept(*args))[1])
    layer(activations(3, 48)).sum().backward()
    assert called == ["product", "gradients"]


@needs_triton
def test_values_in_fp32_beside_activations_in_bfloat16() -> None:
    layer = make("block", (32, 48), kind="block:16", density=0.5)
    stock, x = layer.merge(), activations(10, 48)
    with torch.autocast(DEVICE, torch.bfloat16):
        ours, theirs = layer(x), stock(x)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=2e-2, atol=2e-2)
    ours.float().sum().backward()
    assert layer.values.grad.dtype == layer.bias.grad.dtype == torch.float32


@needs_triton
def test_frozen_parts_have_no_gradients() -> None:
    layer = make("block", (32, 48), kind="block:16", density=0.5)
    layer.values.requires_grad_(False)
    x = activations(5, 48)
    layer(x).sum().backward()
    assert layer.values.grad is None and x.grad is not None
    layer.values.requires_grad_(True)
    layer(x.detach()).sum().backward()
    torch.testing.assert_close(layer.values.grad, make_dense_gradient(layer, x.detach()))


def make_dense_gradient(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """That of sum(y): each row of the weight's gradient is the sum of x over tokens."""
    dense = x.sum(0).expand(layer.out_features, -1)
    return dense.reshape(-1)[layer.support.flat().to(x.device)]


@needs_triton
def test_torch_knows_the_operators() -> None:
    layer, checks = make("block", (32, 48), kind="block:16", density=0.5), ("test_schema", "test_faketensor")
    x, grad = activations(5, 48).detach(), torch.ones(5, 32, device=DEVICE)
    parts = (layer.values.detach(), layer.row_pointers, layer.columns)
    torch.library.opcheck(torch.ops.fallow.block_linear, (x, *parts, layer.bias.detach(), 16), test_utils=checks)
    for needs in ([True, True], [False, True]):
        arguments = (grad, x, *parts, layer.structure, 16, needs)
        torch.library.opcheck(torch.ops.fallow.block_linear_backward, arguments, test_utils=checks)


@needs_triton
def test_compiled_and_checkpointed() -> None:
    """And nothing of the weight's size is kept but the values."""
    layer = make("block", (64, 96), kind="block:16", density=0.5, rank=2)
    x, grad = activations(5, 96), torch.ones(5, 64, device=DEVICE)
    results = []
    for call in (layer, torch.compile(layer, fullgraph=True), lambda x: checkpoint(layer, x, use_reentrant=False)):
        kept: list[torch.Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: (kept.append(t), t)[1], lambda t: t):
            y = call(x)
        own = {t.data_ptr() for t in (*layer.parameters(), *layer.buffers())}
        assert max(t.numel() for t in kept if t.data_ptr() not in own) < 64 * 96 // 4
        results.append([y, *torch.autograd.grad(y, [x, *layer.parameters()], grad)])
    for others in results[1:]:
        for ours, plain in zip(others, results[0], strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@needs_triton
def test_gradients_of_gradients() -> None:
    layer = make("block", (16, 32), kind="block:16", density=0.5)
    x = activations(4, 32)
    seconds = []
    for y in (layer(x), torch.nn.functional.linear(x, layer.effective_weight(), layer.bias)):
        first = torch.autograd.grad(y.pow(3).sum(), [x, layer.values], create_graph=True)
        seconds.append(torch.autograd.grad(sum(g.square().sum() for g in first), [x, layer.values]))
    for ours, theirs in zip(*seconds, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@needs_triton
def test_the_structure_follows_the_layer() -> None:
    layer = make("block", (32, 48), kind="block:16", density=0.5)
    kept = layer.structure
    assert layer.half().structure is kept
    layer.use("fused")
    assert layer.structure is None
    layer.use("block")
    assert torch.equal(layer.structure, kept)
    layer.float()
    compare(layer, activations(4, 48))


@needs_triton
@pytest.mark.parametrize("kind", ["uniform", "block:8"])
def test_other_supports_are_refused(kind: str) -> None:
    with pytest.raises(UserError, match=r"path block cannot compute fc: .* block:16, block:32"):
        make("block", (32, 32), kind=kind, density=0.5)


@needs_triton
def test_a_model_stays_whole_when_one_layer_does_not_fit() -> None:
    net = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(64, 64), torch.nn.Linear(64, 48)]))
    with pytest.raises(UserError, match="multiple of 32 rows, but this matrix has 48"):
        fallow.convert(net, "sparse", sparsity=0.5, support="block:32", path="block")
    with pytest.raises(UserError, match="path block cannot compute 0.0: .*Or write path: materialise"):
        fallow.convert(net, "sparse", sparsity=0.75, path="block")
    assert {type(layer) for layer in net[0]} == {torch.nn.Linear}


def test_the_structure_names_each_block_once() -> None:
    layer = make("materialise", (96, 64), kind="block:16", density=0.5)
    structure = make_block_structure((96, 64), layer.row_pointers, layer.columns, 16)
    begins, rows, _, rows_of_blocks = structure.split([5, 12, 12, 12])
    exist = layer.effective_weight().view(6, 16, 4, 16).abs().sum((1, 3)) != 0
    assert begins.diff().tolist() == exist.sum(0).tolist()
    found = [(row, column) for column in range(4) for row in rows[begins[column] : begins[column + 1]].tolist()]
    assert {tuple(pair) for pair in exist.nonzero().tolist()} == set(found) and len(found) == 12
    assert block_structure_bytes((96, 64), layer.columns.numel(), 16) == 4 * structure.numel()
    assert rows_of_blocks.tolist() == exist.nonzero()[:, 0].tolist()
