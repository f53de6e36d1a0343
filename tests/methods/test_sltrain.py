"""SLTrain, low-rank and ReLoRA: starts, counts against the papers, restarts, mistakes."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import fallow
from fallow.errors import UserError
from fallow.methods import LowRank, ReLoRA, SLTrain, method_of
from fallow.methods.base import reparam_layers
from tests.conformance.families import tiny, tokens


def converted(method: str, **settings: object) -> nn.Module:
    model = tiny("llama")
    fallow.convert(model, method, seed=3, **settings)
    return model


def loss_of(model: nn.Module) -> torch.Tensor:
    logits = model(input_ids=tokens()).logits
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens()[:, 1:].flatten())


def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    loss_of(model).backward()
    optimizer.step()
    optimizer.zero_grad()


def test_sltrain_begins_as_its_sparse_part() -> None:
    model = converted("sltrain", rank=8, density=0.25)
    for layer in reparam_layers(model).values():
        bound = 1 / math.sqrt(layer.in_features)
        weight = layer.effective_weight().detach()
        assert int(weight.count_nonzero()) == layer.values.numel() == round(0.25 * weight.numel())
        assert not layer.low_rank_b.detach().any()
        for drawn in (layer.values.detach(), layer.low_rank_a.detach()):
            assert float(drawn.abs().max()) <= bound
            assert float(drawn.std()) == pytest.approx(bound / math.sqrt(3), rel=0.2)


def test_density_zero_is_low_rank_and_rank_zero_is_sparse() -> None:
    low, both = converted("lowrank", rank=8), converted("sltrain", rank=8, density=0.0)
    for (name, a), (other, b) in zip(low.named_parameters(), both.named_parameters(), strict=True):
        assert name == other and torch.equal(a, b), name
    sparse = converted("sltrain", rank=0, density=0.25)
    assert all(
        layer.low_rank_a is None and layer.nnz == layer.values.numel() for layer in reparam_layers(sparse).values()
    )


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("lowrank", {"rank": 8}),
        ("sltrain", {"rank": 8, "density": 0.0}),
        ("sltrain", {"rank": 0, "density": 0.1}),
        ("sltrain", {"rank": 8, "density": 0.03}),
        ("relora", {"rank": 8, "every": 10, "warmup": 1}),
    ],
)
def test_every_parameter_learns_after_one_update(method: str, settings: dict[str, Any]) -> None:
    model = converted(method, **settings)
    update(model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3))
    loss_of(model).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.any(), f"{name} is dead"


def test_factors_that_are_all_of_a_weight_begin_as_large_as_it_was() -> None:
    stock, model = tiny("llama"), converted("lowrank", rank=8, alpha=3.0)
    for name, layer in reparam_layers(model).items():
        expected = float(stock.get_submodule(name).weight.std())
        assert float(layer.effective_weight().detach().std()) == pytest.approx(expected, rel=0.15)
        sizes = [float(factor.detach().square().mean()) for factor in (layer.low_rank_a, layer.low_rank_b)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.2)
    model = tiny("llama")
    for name in (sites := list(reparam_layers(converted("lowrank", rank=8)))):
        nn.init.zeros_(model.get_submodule(name).weight)
    fallow.convert(model, "lowrank", rank=8)
    for name in sites:
        layer = model.get_submodule(name)
        expected = 1 / math.sqrt(3 * layer.in_features)
        assert float(layer.effective_weight().detach().std()) == pytest.approx(expected, rel=0.15)


def test_another_draw_is_another_support_and_the_rest_is_the_same() -> None:
    first, again, other = (converted("sltrain", rank=8, density=0.25, draw=n) for n in (0, 0, 1))
    for layer, same, another in zip(*(reparam_layers(m).values() for m in (first, again, other)), strict=True):
        assert torch.equal(layer.columns, same.columns) and torch.equal(layer.values, same.values)
        assert layer.support.digest() != another.support.digest() and layer.nnz == another.nnz
        assert torch.equal(layer.low_rank_a, another.low_rank_a)
    rest = [dict(m.named_parameters())["model.embed_tokens.weight"] for m in (first, other)]
    assert torch.equal(*rest)


def test_on_a_base_the_model_begins_unchanged_and_the_base_is_not_trained() -> None:
    stock, model = tiny("llama"), converted("sltrain", rank=4, density=0.1, base="frozen")
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens()).logits, stock(input_ids=tokens()).logits)
    trained = {
        name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad and ".layers." in name
    }
    assert {"low_rank_a", "low_rank_b", "values"} <= trained and "base" not in trained


def test_a_restart_keeps_the_outputs_and_begins_other_factors() -> None:
    method = ReLoRA(rank=4, every=3, warmup=1)
    model = converted("relora", rank=4, every=3, warmup=1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    first = {name: layer.low_rank_a.detach().clone() for name, layer in reparam_layers(model).items()}
    for step in (1, 2, 3):
        update(model, optimizer)
        before = model(input_ids=tokens()).logits.detach()
        method.after_step(model, step, optimizer)
        after = model(input_ids=tokens()).logits.detach()
        if step < 3:
            assert torch.equal(after, before)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    for name, layer in reparam_layers(model).items():
        assert not layer.low_rank_b.detach().any()
        assert not torch.equal(layer.low_rank_a.detach(), first[name])
        assert float(layer.low_rank_a.detach().abs().max()) <= 1 / math.sqrt(layer.in_features)


@pytest.mark.parametrize(("prune", "left"), [("magnitude:0.99", 0.01), ("magnitude:0.5", 0.5), ("random:0.75", 0.25)])
def test_a_restart_drops_a_share_of_each_moment(prune: str, left: float) -> None:
    settings: dict[str, Any] = {"rank": 16, "every": 2, "warmup": 0, "prune": prune}
    model = converted("relora", **settings)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(2):
        update(model, optimizer)
    moments = [(layer, copy.deepcopy(optimizer.state[layer.low_rank_b])) for layer in reparam_layers(model).values()]
    method_of("relora", **settings).after_step(model, 2, optimizer)
    for layer, before in moments:
        now = optimizer.state[layer.low_rank_b]
        assert now["step"] == before["step"]
        for name in ("exp_avg", "exp_avg_sq"):
            kept = now[name] != 0
            assert torch.equal(now[name][kept], before[name][kept])
            spread = 0.1 if prune.startswith("random") else 0.5 / kept.numel()
            assert float(kept.float().mean()) == pytest.approx(left, abs=spread)
            if prune.startswith("magnitude"):
                assert before[name][kept].abs().min() >= before[name][~kept].abs().max()


def test_a_restart_can_forget_everything() -> None:
    model = converted("relora", rank=4, every=1, warmup=0, prune="all")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    update(model, optimizer)
    known = len(optimizer.state)
    method_of("relora", rank=4, every=1, warmup=0, prune="all").after_step(model, 1, optimizer)
    assert len(optimizer.state) == known - 2 * len(reparam_layers(model))


def test_the_sum_of_restarts_has_a_higher_rank_than_the_factors() -> None:
    method = ReLoRA(rank=2, every=2, warmup=0)
    model = converted("relora", rank=2, every=2, warmup=0)
    layer = next(iter(reparam_layers(model).values()))
    start = layer.effective_weight().detach().clone()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    ranks = []
    for step in range(1, 7):
        update(model, optimizer)
        method.after_step(model, step, optimizer)
        if step % 2 == 0:
            ranks.append(int(torch.linalg.matrix_rank((layer.effective_weight().detach() - start).double(), rtol=1e-4)))
    assert ranks == [2, 4, 6]


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("sltrain", {"rank": -1}, "rank is -1, but it must be at least 0"),
        (
            "sltrain",
            {"rank": 4, "density": 3},
            "density is 3, but it must be at least 0 and at most 1. Did you mean 0.03",
        ),
        ("sltrain", {"rank": 4, "density": -0.1}, "at least 0 and at most 1"),
        ("sltrain", {"rank": 0, "density": 0}, "leaves no weight. Write a rank"),
        ("sltrain", {"rank": 0, "alpha": 32.0}, "alpha is 32, which has no effect with rank 0"),
        ("sltrain", {"rank": 4, "alpha": 0.0}, "alpha is 0, but it must be above 0"),
        ("sltrain", {"rank": 4, "density": 0, "support": "block:4"}, "support is block:4, which has no effect"),
        ("sltrain", {"rank": 4, "density": 0, "draw": 1}, "draw is 1, which has no effect with density 0"),
        ("sltrain", {"rank": 4, "draw": -1}, "draw is -1, but it must be at least 0"),
        ("sltrain", {"rank": 4, "support": "2:4"}, "Write density: 0.5, or support: uniform"),
        ("sltrain", {"rank": 4, "base": "froze"}, "Did you mean frozen"),
        ("sltrain", {"rank": 4, "dropout": 0.1}, 'unknown setting of method sltrain "dropout"'),
        ("lowrank", {"rank": 0}, "rank is 0, but it must be at least 1"),
        ("lowrank", {"rank": 4, "alpha": float("nan")}, "finite"),
        ("relora", {"rank": 4}, "needs every"),
        ("relora", {"rank": 4, "every": 0}, "every is 0, but it must be at least 1"),
        ("relora", {"rank": 4, "every": 50}, "below every = 50, or the rate would never be back"),
        ("relora", {"rank": 4, "every": 500, "prune": "magnitude"}, "such as magnitude:0.99"),
        ("relora", {"rank": 4, "every": 500, "prune": "random:1.5"}, "share between 0 and 1"),
    ],
)
def test_mistakes_are_named(method: str, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        method_of(method, **settings)


@pytest.mark.parametrize(
    "method", [SLTrain(rank=48), LowRank(rank=48), ReLoRA(rank=48, every=200)], ids=lambda m: m.name
)
def test_a_rank_above_that_of_a_matrix_is_refused_before_anything_changes(method: Any) -> None:
    model = tiny("llama")
    with pytest.raises(
        UserError, match=r"q_proj is 32 x 32, .* no higher rank than 32. Write at most 16, or leave q_proj"
    ):
        fallow.convert(model, method)
    assert not reparam_layers(model)


@pytest.mark.parametrize("method", ["sltrain", "lowrank"])
def test_trained_weights_are_not_thrown_away(method: str) -> None:
    with pytest.raises(UserError, match="keeps nothing of a trained weight .* base: frozen"):
        fallow.convert(tiny("llama"), method, rank=4, pretrained=True)
