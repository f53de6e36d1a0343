"""The battery that every method passes. Oracles: autograd in float64, transformers' loading, torch's FLOP counter."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import fallow
from fallow.linear import ReparamLinear, linear_sites
from fallow.linear.inputs import is_linear
from fallow.methods.base import reparam_layers
from tests.conformance.families import CONFIGS, ENCODERS, tiny, tokens
from tests.conformance.table import ROWS, Row
from tests.paths import needs_kernels, paths

FAMILIES = [*CONFIGS, *ENCODERS]
rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def converted(row: Row, family: str = "gpt2", path: str = "") -> nn.Module:
    model = tiny(family)
    fallow.convert(model, row.method, seed=3, path=path, **row.settings)
    return model


def absent(model: nn.Module) -> dict[str, torch.Tensor]:
    """Where the entries of each weight do not exist; a weight with a base or factors has all of them."""
    layers = {
        n: layer for n, layer in reparam_layers(model).items() if layer.nnz < layer.in_features * layer.out_features
    }
    return {n: layer.effective_weight().detach() == 0 for n, layer in layers.items()}


def loss_of(model: nn.Module) -> torch.Tensor:
    logits = model(input_ids=tokens()).logits
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens()[:, 1:].flatten())


@rows
@pytest.mark.parametrize("family", FAMILIES)
def test_density_is_exact_and_only_blocks_are_converted(row: Row, family: str) -> None:
    model = tiny(family)
    sites = linear_sites(model)
    report = fallow.convert(model, row.method, **row.settings)
    if row.method == "dense":
        assert not report.converted and not reparam_layers(model)
        return
    assert report.num_entries == pytest.approx(row.density * report.num_positions, abs=len(sites))
    assert all(".layers." in f".{c.name}" or ".h." in c.name or ".layer." in c.name for c in report.converted)
    per_block = {"gpt2": 4, "gpt_neox": 4, "llama": 7, "llama tied": 7, "qwen2": 7, "qwen3": 7, "mistral": 7}.get(
        family, 6
    )
    if row.queries_and_values:
        per_block = {"gpt2": 1, "gpt_neox": 1}.get(family, 2)
    assert len(report.converted) == 2 * per_block
    embeddings = model.get_input_embeddings()
    assert int(embeddings.weight.count_nonzero()) > 0.9 * embeddings.weight.numel()


@rows
@paths
def test_forward_and_gradients_equal_autograd_through_the_effective_weight(row: Row, path: str) -> None:
    model = converted(row, path=path).double()
    trainable = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(loss_of(model), trainable)
    for name, layer in reparam_layers(model).items():
        layer.forward = lambda x, layer=layer: functional.linear(x, layer.effective_weight(), layer.bias)
        assert name
    expected_loss = loss_of(model)
    expected = torch.autograd.grad(expected_loss, trainable)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@rows
@pytest.mark.parametrize("path", ["factored", pytest.param("sparse", marks=needs_kernels)])
def test_single_precision_as_the_kernels_compute(row: Row, path: str) -> None:
    model = converted(row, path=path)
    trainable = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(loss_of(model), trainable)
    exact = model.double()
    expected = torch.autograd.grad(loss_of(exact), [p for p in exact.parameters() if p.requires_grad])
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-5)


@rows
@pytest.mark.parametrize("family", FAMILIES)
def test_merge_and_the_hugging_face_round_trip(row: Row, family: str, tmp_path: Path) -> None:
    import transformers

    model = converted(row, family)
    architecture = type(model)
    with torch.no_grad():
        before = model(input_ids=tokens()).logits
        merged = fallow.merge(model)
        assert not any(isinstance(m, ReparamLinear) for m in merged.modules())
        torch.testing.assert_close(merged(input_ids=tokens()).logits, before, rtol=0, atol=1e-5)
        merged.save_pretrained(tmp_path)
        loaded = architecture.from_pretrained(tmp_path)
        assert torch.equal(loaded(input_ids=tokens()).logits, merged(input_ids=tokens()).logits)
        if family in CONFIGS:
            auto = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
            torch.testing.assert_close(auto(input_ids=tokens()).logits, before, rtol=0, atol=1e-5)


@rows
@pytest.mark.parametrize("family", ["gpt2", "llama tied", "bert"])
def test_save_and_load_are_bit_equal(row: Row, family: str, tmp_path: Path) -> None:
    import transformers

    model = converted(row, family)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    fallow.save(model, tmp_path)
    if row.method == "dense" and family == "bert":
        return  # a stock encoder: transformers' own folder
    loaded = fallow.load(tmp_path).eval()
    for (name, a), (other, b) in zip(model.named_parameters(), loaded.named_parameters(), strict=True):
        assert name == other and torch.equal(a, b), name
    assert torch.equal(model(input_ids=tokens()).logits, loaded(input_ids=tokens()).logits)
    if row.method != "dense":
        with pytest.raises(ValueError, match=r"not merged. Load it with fallow.load"):
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
        with pytest.raises(OSError, match="no file named model.safetensors"):
            type(model).from_pretrained(tmp_path)
        stored = json.loads((tmp_path / "fallow.json").read_text())
        assert stored["method"] == {"name": row.method, **stored["method"]}
        from safetensors import safe_open

        with safe_open(tmp_path / "fallow.safetensors", framework="pt") as file:
            assert not any("columns" in key or "pointers" in key for key in file.keys())  # noqa: SIM118


@rows
def test_save_pretrained_of_a_converted_model_is_never_a_plain_folder(row: Row, tmp_path: Path) -> None:
    model = converted(row)
    model.save_pretrained(tmp_path)
    reloaded = fallow.load(tmp_path).eval()
    assert torch.equal(model(input_ids=tokens()).logits, reloaded(input_ids=tokens()).logits)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        next(twin.parameters()).add_(1.0)
    twin.save_pretrained(tmp_path / "twin")
    saved = fallow.load(tmp_path / "twin")
    assert torch.equal(next(saved.parameters()), next(twin.parameters()))


@rows
def test_counts_equal_the_tensors(row: Row) -> None:
    model = converted(row)
    for layer in reparam_layers(model).values():
        if layer.low_rank_b is not None:
            nn.init.normal_(layer.low_rank_b)  # it starts at zero, and what can differ from zero is counted
    counts = fallow.count(model)
    assert counts.stored == sum(p.numel() for p in model.parameters())
    assert counts.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    merged = fallow.merge(copy.deepcopy(model))
    assert counts.positions == sum(p.numel() for p in merged.parameters())
    vectors = sum(p.numel() for p in merged.parameters() if p.ndim < 2)
    matrices = sum(int(p.count_nonzero()) for p in merged.parameters() if p.ndim >= 2)
    assert counts.nonzero == vectors + matrices
    with torch.device("meta"):
        on_meta = converted(row)
    assert fallow.count(on_meta).nonzero == pytest.approx(counts.nonzero, abs=3)


@rows
def test_bytes_equal_the_tensors_of_a_real_step(row: Row) -> None:
    from fallow.accounting.memory import measure_memory

    model = converted(row).train()
    update = torch.optim.AdamW(model.parameters())
    loss_of(model).backward()
    update.step()
    layers = reparam_layers(model)
    measured = measure_memory(model, update).layers
    tensors = [p for layer in layers.values() for p in layer.parameters()]
    trained = [p for p in tensors if p.requires_grad]
    assert measured.weights == 4 * sum(p.numel() for p in tensors)
    assert measured.gradients == 4 * sum(p.numel() for p in trained)
    assert measured.optimizer == 2 * measured.gradients + 4 * len(trained)  # AdamW's step count for each
    sparse = [layer for layer in layers.values() if layer.values is not None]
    entries, rows = sum(layer.values.numel() for layer in sparse), sum(layer.out_features for layer in sparse)
    kept = [layer.structure for layer in sparse if layer.structure is not None]  # derived for the path that computes it
    derived = sum(structure.numel() * structure.element_size() for structure in kept)
    own = measured.indices - derived
    assert own == 2 * entries + 4 * (rows + len(sparse))  # 16-bit columns, a pointer a row and one more
    if row.density <= 0.25 and layers:
        dense = 16 * sum(layer.in_features * layer.out_features for layer in layers.values())
        ours = sum(16 * layer.values.numel() for layer in layers.values()) + own
        assert ours <= 0.32 * dense  # at width 32 the row pointers weigh more than in a real model


@rows
@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "gpt_neox"])
def test_flops_equal_torchs_counter(row: Row, family: str) -> None:
    from fallow.accounting.flops import count_flops

    model = converted(row, family)
    model.set_attn_implementation("eager")  # the counter does not see inside the fused attention of the CPU
    length = 12
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens(1, length))
    counted = count_flops(model, context=length)
    layers = reparam_layers(model).values()
    terms = [p for layer in layers for name, p in layer.named_parameters() if name != "bias"]
    rest = sum(2 * m.weight.numel() for n, m in model.named_modules() if is_linear(m) and in_a_block(n))
    assert counted.linear == 2 * sum(p.numel() for p in terms) + rest
    # the counter sees products of matrices, so not the softmax, nor what is added in place; and it sees W being built
    beside = [layer for layer in layers if layer.path == "update"]
    added = [p for layer in beside for p in (layer.low_rank_b, layer.values) if p is not None]
    unseen = sum(2 * p.numel() for p in added)
    built = sum(
        2 * layer.out_features * layer.low_rank_a.numel()
        for layer in layers
        if layer.path == "materialise" and layer.low_rank_a is not None
    )
    assert counter.get_total_flops() - built == (counted.forward_executed - counted.softmax - unseen) * length


def in_a_block(name: str) -> bool:
    return any(part.isdigit() for part in name.split("."))


@rows
@pytest.mark.parametrize("optimizer", ["adamw", "sgd with momentum"])
def test_zeros_stay_zero_through_decay_momentum_and_clipping(row: Row, optimizer: str) -> None:
    model = converted(row).train()
    zeros = absent(model)
    before = {n: layer.effective_weight().detach().clone() for n, layer in reparam_layers(model).items()}
    if optimizer == "adamw":
        update: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.3)
    else:
        update = torch.optim.SGD(model.parameters(), lr=1e-1, momentum=0.9, weight_decay=0.1, nesterov=True)
    for _ in range(5):
        loss_of(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        update.step()
        update.zero_grad()
    merged = fallow.merge(model)
    for name, zero in zeros.items():
        weight = merged.get_submodule(name).weight.detach()
        weight = weight.t() if weight.shape != zero.shape else weight
        weight = (
            weight
            if weight.shape == zero.shape and torch.equal(weight[zero], torch.zeros(int(zero.sum())))
            else weight.t()
        )
        assert int(weight[zero].count_nonzero()) == 0, name
        assert not torch.equal(weight, before[name])


@rows
def test_restarts_draw_equal_supports(row: Row) -> None:
    torch.manual_seed(123)
    first = {n: layer.support for n, layer in reparam_layers(converted(row)).items()}
    torch.manual_seed(456)
    second = {n: layer.support for n, layer in reparam_layers(converted(row)).items()}
    for name, support in first.items():
        assert (support is None) == (second[name] is None)
        assert support is None or support.digest() == second[name].digest(), name


@rows
def test_fused_parts_are_equally_dense(row: Row) -> None:
    for name, layer in reparam_layers(converted(row)).items():
        if name.endswith("c_attn") and layer.support is not None:
            counts = [int(part.count_nonzero()) for part in layer.effective_weight().detach().chunk(3)]
            assert len(set(counts)) == 1, counts


@rows
@paths
def test_bfloat16(row: Row, path: str) -> None:
    model = converted(row, path=path)
    exact = loss_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss_of(model)
    mixed.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    torch.testing.assert_close(mixed, exact, rtol=2e-2, atol=2e-2)
    half = converted(row, path=path).to(torch.bfloat16)
    torch.testing.assert_close(loss_of(half).float(), exact, rtol=3e-2, atol=3e-2)


@pytest.mark.slow
@rows
def test_compiles_without_a_graph_break(row: Row) -> None:
    torch._dynamo.reset()  # each row compiles the same forward function: together they would pass its limit
    model = converted(row)
    block = model.transformer.h[0].mlp
    x = torch.randn(2, 12, 32)
    torch.testing.assert_close(torch.compile(block, fullgraph=True)(x), block(x), rtol=1e-5, atol=1e-5)


@rows
def test_checkpointing_changes_nothing(row: Row) -> None:
    model = converted(row).train()
    loss_of(model).backward()
    plain = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loss_of(model).backward()
    for a, p in zip(plain, [p for p in model.parameters() if p.grad is not None], strict=True):
        assert torch.equal(a, p.grad)


@rows
def test_decay_reaches_matrices_and_their_parts_only(row: Row) -> None:
    from fallow.methods import method_of
    from fallow.train import Optimizer
    from fallow.train.optimizers import groups_of

    model = converted(row)
    groups = groups_of(model, method_of(row.method, **row.settings), Optimizer(lr=1e-3, weight_decay=0.1))
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert bool(decays[id(parameter)]) == (parameter.ndim >= 2 or name.endswith(".values")), name
