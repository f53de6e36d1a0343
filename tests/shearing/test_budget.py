"""CoFi's gates: one constraint on the number of parameters, and a model with zeros that does what was evaluated."""

import contextlib

import pytest
import torch

import fallow
from fallow.errors import UserError
from fallow.methods import method_of
from fallow.shearing.counter import Counter
from fallow.train import Mesh
from tests.conformance.families import tokens
from tests.conformance.table import Row
from tests.conformance.training import loop
from tests.shearing.tiny import MODELS, distance, facts, model_of


def gated(name: str, **settings):
    model = model_of(name)
    num = sum(p.numel() for p in model.parameters())
    fallow.convert(model, "cofi", **{"parameters": int(0.8 * num), "warmup": 0, "seed": 3, **settings})
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for log_alpha in model.gates.log_alpha.values():
            log_alpha.copy_(torch.randn(log_alpha.shape, generator=draw) * 2).clamp_(-4.6, 4.6)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_layers_of_their_own_sizes(name: str) -> None:
    """The sum over layers of the exact counter, each layer in a shape of its own."""
    model = gated(name)
    _, source = facts(model)
    gates, masks = model.gates, {axis: (gate > 0).float() for axis, gate in model.gates.best().items()}
    counter = Counter.of(model_of(name), model.config)
    wanted = gates.outside
    for layer in range(source.layers):
        heads = int(masks["heads"][layer].sum())
        kv = source.kv_heads if source.group > 1 else heads
        if masks["layers"][layer] > 0:
            wanted += counter.layer(source.with_sizes(heads=heads, kv_heads=kv, inner=int(masks["inner"][layer].sum())))
    assert float(gates.expected_parameters(masks)) == wanted
    whole = {axis: torch.ones_like(mask) for axis, mask in masks.items()}
    assert float(gates.expected_parameters(whole)) == counter.total(source) == gates.num_source
    assert model.gates.diagnosis()["parameters"]["realised"] == wanted


@pytest.mark.parametrize("name", MODELS)
def test_merging_leaves_zeros_that_do_what_was_evaluated(name: str) -> None:
    model = gated(name)
    with torch.no_grad():
        for axis in ("heads", "inner"):
            model.gates.log_alpha[axis].view(-1)[0] = -4.6
        expected = model.eval()(tokens()).logits
        architecture, shape = type(model), facts(model)[1]
        merged = fallow.merge(model)
        assert distance(merged(tokens()).logits, expected) < 1e-6
    assert (type(merged), facts(merged)[1]) == (architecture, shape)
    assert any(bool((p == 0).any()) for p in merged.parameters())


def test_the_term_is_its_formula_and_moves_towards_the_target() -> None:
    model = gated("llama", warmup=10, rate=0.5)
    gates = model.gates
    with torch.no_grad():
        gates.linear["all"].fill_(2.0)
        gates.quadratic["all"].fill_(3.0)
        gates.step.fill_(5)
        for log_alpha in gates.log_alpha.values():
            log_alpha.fill_(1.0)
    chance = float(gates.constraint.gate.open(torch.tensor(1.0)))
    inside = gates.shared + gates.by_unit * 64 * chance + gates.by_head * 4 * chance
    sparsity = 1 - (2 * chance * inside + gates.outside) / gates.num_source
    excess = sparsity - 0.5 * (1 - gates.num_target / gates.num_source)
    assert float(gates.penalty().detach()) == pytest.approx(2 * excess + 3 * excess**2, rel=1e-4)
    method = method_of("cofi", parameters=gates.num_target, warmup=0, rate=0.3)
    rates = method.param_overrides(model)
    groups = {
        ascends: [model.get_parameter(n) for n, rate in rates.items() if rate.maximize is ascends]
        for ascends in (True, False)
    }
    assert len(groups[True]) == 2
    adam = torch.optim.Adam([{"params": groups[False]}, {"params": groups[True], "maximize": True, "lr": 1.0}], lr=0.1)
    gates.constraint = type(gates.constraint)("released", 0)
    for step in range(1, 201):
        adam.zero_grad()
        method.before_step(model, step)
        adam.step()
        method.after_step(model, step, adam)
    found = gates.diagnosis()["parameters"]
    assert found["expected"] == pytest.approx(found["target"], rel=0.05)


def test_a_run_that_is_broken_off_comes_to_the_same_gates(tmp_path) -> None:
    row = Row("cofi", {"parameters": 20_000, "warmup": 8, "rate": 0.4, "draws": 3})
    straight = loop(row, tmp_path / "straight", Mesh())
    straight.fit()
    with contextlib.suppress(InterruptedError):
        loop(row, tmp_path / "broken", Mesh(), crash=10).fit()
    again = loop(row, tmp_path / "broken", Mesh())
    again.fit()
    for (key, a), (_, b) in zip(straight.model.named_parameters(), again.model.named_parameters(), strict=True):
        assert torch.equal(a, b), key
    assert any("gates" in key for key, _ in straight.model.named_parameters())


def test_numbers_that_cannot_be() -> None:
    for number in (10, 10**9):
        with pytest.raises(UserError, match="lie outside the layers. Write a number between the two"):
            fallow.convert(model_of("llama"), "cofi", parameters=number)
    with pytest.raises(UserError, match="parameters is 0, but it must be at least 1"):
        method_of("cofi", parameters=0)
