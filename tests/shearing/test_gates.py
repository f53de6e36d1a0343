"""Gates: their distribution, what holds them to the target, and the model that they are on."""

import copy
import math
import pickle

import pytest
import torch

import fallow
from fallow.data.mixture import Mixture
from fallow.errors import UserError
from fallow.methods import method_of
from fallow.shearing.concrete import HardConcrete
from fallow.shearing.constraint import Constraint
from fallow.shearing.diagnostics import diagnose
from fallow.shearing.gates import Gates, detach
from fallow.shearing.groups import Group
from fallow.shearing.scores.example import loss_of
from fallow.train import BatchSize, Duration, Loop, LoopSettings, Mesh, Optimizer
from tests.conformance.families import tokens
from tests.conformance.training import Sequences
from tests.shearing.tiny import MODELS, distance, facts, model_of, smaller

HALF = {"layers": 1, "hidden": 16, "heads": 2, "inner": 24}


def sheared(name: str = "llama", **settings):
    model = model_of(name)
    fallow.convert(model, "shear", **{"to": HALF, "warmup": 0, "seed": 3, **settings})
    with torch.no_grad():
        for log_alpha in model.gates.log_alpha.values():
            log_alpha.copy_(torch.randn_like(log_alpha) * 2).clamp_(-4.6, 4.6)
    return model


def example():
    ids = tokens(4, 13)
    return ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize("beta", [0.83, 2 / 3])
def test_the_distribution_is_what_its_formulas_say(beta) -> None:
    gate = HardConcrete(beta)
    log_alpha = torch.tensor([-4.605, -1.0, 0.0, 2.0, 4.605])
    uniform = torch.rand(200_000, 5, generator=torch.Generator().manual_seed(0))
    z = gate.sample(log_alpha, uniform)
    assert z.min() == 0.0 and z.max() == 1.0
    torch.testing.assert_close((z > 0).float().mean(0), gate.open(log_alpha), atol=3e-3, rtol=0)
    assert float(gate.open(torch.tensor(4.605))) == pytest.approx({0.83: 0.9986, 2 / 3: 0.9980}[beta], abs=2e-4)
    one = torch.tensor(0.5)
    assert float(gate.value(one)) == pytest.approx(1 / (1 + math.exp(-0.8 * 0.5 / beta)))


def test_gradients_of_samples_are_those_of_float64() -> None:
    gate = HardConcrete(2 / 3)
    uniform = torch.rand(64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    log_alpha = torch.randn(64, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: gate.sample(a, uniform), [log_alpha])


def naive(preset, expected, keep, size, linear, quadratic) -> float:
    """The formulas of the docstring, one row at a time."""
    total = 0.0
    for row, row_expected in enumerate(expected):
        if preset == "paper":
            excess = row_expected - keep
            total += linear[row] * excess + quadratic[row] * excess**2
        else:
            excess = (1 - row_expected / size) - (1 - keep / size)
            pick = row if preset == "reachable" else 0
            total += (linear[pick] * excess + quadratic[pick] * excess**2) / len(expected)
    return total


@pytest.mark.parametrize("preset", ["paper", "released", "reachable"])
def test_terms_equal_the_formulas(preset) -> None:
    constraint = Constraint(preset, warmup=10)
    group = Group("inner", (3,), 8, 2)
    log_alpha = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    shape = constraint.multipliers(group)
    linear, quadratic = torch.rand(shape or (1,)) * 3, torch.rand(shape or (1,))
    chance = torch.sigmoid(log_alpha - constraint.gate.beta * math.log(0.1 / 1.1))
    if preset == "reachable":
        low, high = (1 / (1 + math.exp(-(s * math.log(100) + 2 / 3 * math.log(11)))) for s in (-1, 1))
        chance = (chance - low) / (high - low)
    expected = chance.sum(1).tolist()
    for step, keep in ((0, 8.0), (5, 5.0), (10, 2.0), (99, 2.0)):
        term = constraint.term(group, log_alpha, linear.view(shape), quadratic.view(shape), step)
        wanted = naive(preset, expected, keep, 8, linear.tolist(), quadratic.tolist())
        assert float(term) == pytest.approx(wanted, rel=1e-4)


def test_multipliers_ascend_and_gates_descend() -> None:
    model = sheared(warmup=0, preset="released")
    with torch.no_grad():
        for log_alpha in model.gates.log_alpha.values():
            log_alpha.fill_(HardConcrete.CEILING)
    method = method_of("shear", to=HALF, warmup=0, preset="released")
    rates = method.param_overrides(model)
    descending = [model.get_parameter(name) for name, rate in rates.items() if not rate.maximize]
    ascending = [model.get_parameter(name) for name, rate in rates.items() if rate.maximize]
    assert sum(p.numel() for p in descending) == 2 + 32 + 4 * 2 + 64 * 2
    adam = torch.optim.AdamW(
        [{"params": descending}, {"params": ascending, "maximize": True}], lr=1.0, weight_decay=0.0
    )
    before = float(model.gates.penalty().detach())
    for step in range(1, 9):
        method.before_step(model, step)
        adam.step()
        method.after_step(model, step, adam)
        adam.zero_grad()
    assert before == 0.0
    assert all(float(p.detach()) > 0 for p in model.gates.quadratic.values())
    assert all(float(p.detach()) < 0 for p in model.gates.linear.values())  # too little is pruned: s < t
    assert all(float(p.detach().max()) < HardConcrete.CEILING for p in model.gates.log_alpha.values())


@pytest.mark.parametrize("name", MODELS)
def test_merging_cuts_to_what_was_evaluated(name) -> None:
    model = sheared(name)
    architecture, target = type(model), smaller(facts(model)[1])
    with torch.no_grad():
        gated = model(tokens()).logits
        merged = fallow.merge(model)
        assert merged is not model and type(merged) is architecture
        with pytest.raises(UserError, match="merged into another one already. Use what fallow.merge returned"):
            _ = fallow.merge(model)
        assert facts(merged)[1] == target
        assert distance(merged(tokens()).logits, gated) < 1e-6
    assert not any("gates" in parameter for parameter, _ in merged.named_parameters())


def test_save_load_and_copies_are_bit_equal(tmp_path) -> None:
    model = sheared()
    with torch.no_grad():
        before = model(tokens()).logits
        fallow.save(model, tmp_path)
        loaded = fallow.load(tmp_path)
        assert torch.equal(loaded(tokens()).logits, before)
        twin = copy.deepcopy(model)
        twin.gates.log_alpha["inner"].neg_()
        assert not torch.equal(twin(tokens()).logits, before)
        assert torch.equal(model(tokens()).logits, before)
    with pytest.raises(OSError, match=r"no file named model.safetensors"):
        type(model).from_pretrained(tmp_path)
    with pytest.raises(UserError, match="converted already, by method shear"):
        fallow.convert(model, "dense")


def test_draws_belong_to_sequences_of_the_global_batch() -> None:
    model = sheared(draws=3).train()
    gates = model.gates
    whole = gates.sample(7)["inner"]
    assert torch.equal(whole[0], whole[3])
    assert not torch.equal(whole[0], whole[1])
    gates.advance(0)
    parts = [gates.sample(n)["inner"] for n in (2, 4)]
    assert torch.equal(torch.cat(parts), whole[:6])
    again = Gates(gates.source, list(gates.groups.values()), gates.constraint, 3, gates.key)
    again.load_state_dict(gates.state_dict())
    assert torch.equal(again.sample(7)["inner"], whole)
    gates.advance(1)
    assert not torch.equal(gates.sample(7)["inner"], whole)


def test_one_draw_needs_no_rows() -> None:
    gates = sheared(draws=1).gates
    assert gates.sample(4)["hidden"].shape == (32,)


def test_evaluation_follows_the_target() -> None:
    model = sheared(warmup=10)
    gates = model.gates
    assert gates.by_now() == {"layers": 2, "hidden": 32, "heads": 2, "inner": 64}
    gates.advance(5)
    assert gates.by_now() == {"layers": 2, "hidden": 24, "heads": 2, "inner": 44}
    assert int((gates.best(gates.by_now())["hidden"] > 0).sum()) == 24
    gates.advance(10)
    assert {axis: int((z > 0).sum(-1).max()) for axis, z in gates.best(gates.by_now()).items()} == {
        "layers": 1, "hidden": 16, "heads": 1, "inner": 24,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["llama", "opt", "gpt2"])
def test_recomputing_activations_changes_nothing(name) -> None:
    model = sheared(name).train()
    for module in model.modules():
        module.p = 0.0 if isinstance(module, torch.nn.Dropout) else getattr(module, "p", None)
    loss_of(model, example()).backward()
    plain = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    assert sum(key.startswith("gates.log_alpha") for key in plain) == 4
    model.zero_grad()
    model.gates.advance(0)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loss_of(model, example()).backward()
    for key, gradient in plain.items():
        assert torch.equal(model.get_parameter(key).grad, gradient), key


@pytest.mark.parametrize("weights", ["model", "bf16"])
def test_updates_per_layer_are_the_same_and_gates_stay_in_fp32(weights, tmp_path) -> None:
    found = []
    for update in ("together", "per_layer"):
        mixture = Mixture([("pattern", Sequences(), 1.0)], seed=0, batch=8)
        settings = LoopSettings(
            budget=Duration(steps=4),
            batch=BatchSize(sequences=8, micro=4),
            optimizer=Optimizer(lr=1e-3, clip=0.0, update=update, weights=weights),
            precision="bf16" if weights == "bf16" else "fp32",
        )
        model = sheared()
        method = method_of("shear", to=HALF, warmup=0)
        run = Loop(model, method, mixture, settings, Mesh(), tmp_path / update)
        run.fit()
        assert {p.dtype for p in run.model.gates.parameters()} == {torch.float32}
        found.append(run.model)
    for (name, a), (_, b) in zip(found[0].named_parameters(), found[1].named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_reentrant_checkpointing_is_refused() -> None:
    model = sheared().train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(UserError, match="checkpointing is re-entrant"):
        model(tokens())


def test_a_gate_that_is_no_number_stops_before_the_update() -> None:
    model = sheared()
    method = method_of("shear", to=HALF)
    with torch.no_grad():
        model.gates.log_alpha["heads"].view(-1)[0] = float("nan")
    with pytest.raises(UserError, match=r"gates are not finite at step 7 \(gates.log_alpha.heads\).*as after step 6"):
        method.before_step(model, 7)


def test_bfloat16_autocast_is_close() -> None:
    model = sheared()
    with torch.no_grad():
        exact = model(tokens()).logits
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(tokens()).logits
    assert distance(mixed.float(), exact) < 0.03
    assert {p.dtype for p in model.gates.parameters()} == {torch.float32}


@pytest.mark.slow
def test_blocks_compile_without_a_graph_break() -> None:
    model = sheared("llama").train()
    expected = loss_of(model, example())
    expected.backward()
    gradient = model.gates.log_alpha["inner"].grad.clone()
    model.zero_grad()
    for layer in model.model.layers:
        layer.compile(fullgraph=True, backend="aot_eager")
    model.gates.advance(0)
    with torch._dynamo.config.patch(recompile_limit=1):  # the code of the first layer does for all
        found = loss_of(model, example())
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.gates.log_alpha["inner"].grad, gradient, rtol=1e-4, atol=1e-7)


def test_a_decided_choice_has_converged_and_noise_has_not() -> None:
    model = sheared(preset="reachable")
    gates = model.gates
    assert not diagnose(gates).converged
    with torch.no_grad():
        for axis, group in gates.groups.items():
            gates.log_alpha[axis].fill_(-HardConcrete.CEILING)[..., : group.keep] = HardConcrete.CEILING
    found = diagnose(gates)
    assert found.converged, found.verdict
    assert found.verdict == "converged"
    by_axis = {state.axis: state for state in found.axes}
    assert by_axis["inner"].expected == pytest.approx(24, abs=1e-3)
    assert by_axis["inner"].open == 24
    assert by_axis["hidden"].margin == pytest.approx(1.0, abs=1e-4)
    with torch.no_grad():
        gates.log_alpha["hidden"].fill_(0.0)
    assert "100% of the gates of hidden are undecided" in diagnose(gates).verdict
    assert "the margin of hidden between what stays and what goes is 0.000, which is noise" in diagnose(gates).verdict


def test_the_released_form_leaves_a_remainder() -> None:
    """Decided gates of exactly the target's size expect more than that, so the constraint pulls one too many shut."""
    group = Group("inner", (), 1000, 500)
    log_alpha = torch.full((1000,), -HardConcrete.CEILING)
    log_alpha[:500] = HardConcrete.CEILING
    assert float(Constraint("released", 0).expected(log_alpha)) == pytest.approx(500 * (0.9980 + 0.0471), rel=1e-3)
    assert float(Constraint("reachable", 0).expected(log_alpha)) == pytest.approx(500, rel=1e-5)
    assert group.num_gates == 1000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"to": HALF, "draws": 0}, "draws is 0, but it must be at least 1"),
        ({"to": HALF, "warmup": -1}, "warmup is -1"),
        ({"to": HALF, "rate": 0.0}, "rate is 0.0, but it must be above 0"),
        ({"to": HALF, "preset": "papr"}, "preset.*must be one of: paper, released, reachable. Did you mean paper"),
        ({"to": {"layer": 1}}, "unknown key to.layer. Did you mean to.layers"),
        ({}, "method shear needs to"),
        ({"to": HALF | {"inner": 99}}, "inner is 99, but the source has 64"),
        ({"to": {"inner": 8}, "sharing": "within"}, "sharing is within, which has no effect: the heads are not cut"),
        ({"to": {"heads": 2, "kv_heads": 1}, "sharing": "within"}, "kv_heads is 1, but sharing within keeps all 2"),
        ({"to": {"heads": 2, "kv_heads": 2}, "sharing": "whole"}, "but whole groups keep their 2"),
    ],
)
def test_settings_that_cannot_be(settings, message) -> None:
    model = model_of("llama")
    with pytest.raises(UserError, match=message):
        fallow.convert(model, "shear", **settings)
    assert not hasattr(model, "gates")


def test_other_models_are_refused() -> None:
    with pytest.raises(UserError, match="is not a Hugging Face model"):
        fallow.convert(torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(2, 2)])), "shear", to=HALF)


def test_gated_norms_survive_a_pickle_and_become_stock_norms_again() -> None:
    model = sheared("llama")
    copied = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(copied(tokens()).logits, model(tokens()).logits)
    detach(model)
    assert {type(module) for module in model.modules()} == {type(module) for module in model_of("llama").modules()}
    assert not any("gate_values" in vars(module) for module in model.modules())
