"""The sparse method: SPDF's start, SuPar's rule, and how missing weights wake up."""

from pathlib import Path

import pytest
import torch

import fallow
from fallow.errors import UserError
from fallow.methods import Sparse, method_of
from fallow.methods.base import reparam_layers
from fallow.methods.sparse import wake
from tests.conformance.families import tiny


def test_the_start_is_the_initial_weight_times_the_mask() -> None:
    before = tiny("gpt2").transformer.h[0].mlp.c_fc.weight.detach().clone()
    model = tiny("gpt2")
    fallow.convert(model, "sparse", sparsity=0.75)
    after = model.transformer.h[0].mlp.c_fc.weight.detach()
    assert torch.equal(after[after != 0], before[after != 0])
    assert int((after != 0).sum()) == before.numel() // 4


def test_supar_scales_fresh_weights_and_rates() -> None:
    plain, scaled, tuned = tiny("gpt2"), tiny("gpt2"), tiny("gpt2")
    fallow.convert(plain, "sparse", sparsity=0.75)
    fallow.convert(scaled, "sparse", sparsity=0.75, parametrization="supar")
    fallow.convert(tuned, "sparse", sparsity=0.75, parametrization="supar", pretrained=True)
    for name, layer in reparam_layers(plain).items():
        torch.testing.assert_close(reparam_layers(scaled)[name].values, 2.0 * layer.values)
        assert torch.equal(reparam_layers(tuned)[name].values, layer.values)
    method = method_of("sparse", sparsity=0.75, parametrization="supar")
    rates = method.param_overrides(scaled)
    assert set(rates) == {f"{name}.values" for name in reparam_layers(scaled)}
    assert all(rate.lr_multiplier == pytest.approx(4.0) for rate in rates.values())
    assert not method_of("sparse", sparsity=0.75).param_overrides(plain)


def test_supar_keeps_the_size_of_outputs_whatever_the_sparsity() -> None:
    """The sparse coordinate check: with fixed inputs the spread of a layer's output does not fall with the density."""
    torch.manual_seed(0)
    inputs = torch.randn(256, 512)
    spreads = {}
    for rule in ("standard", "supar"):
        for sparsity in (0.0, 0.5, 0.75, 0.875):
            torch.manual_seed(1)
            net = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(512, 512, bias=False)]))
            fallow.convert(net, "sparse", sparsity=sparsity, parametrization=rule)
            spreads[rule, sparsity] = float(net[0][0](inputs).std())
    for sparsity in (0.5, 0.75, 0.875):
        assert spreads["supar", sparsity] == pytest.approx(spreads["supar", 0.0], rel=0.1)
        assert spreads["standard", sparsity] < 0.8 * spreads["standard", 0.0]


@pytest.mark.parametrize("revive", ["zeros", "normal"])
def test_missing_weights_wake_up_at_zero_or_normal(revive: str) -> None:
    model = tiny("gpt2")
    fallow.convert(model, "sparse", sparsity=0.75, revive=revive)
    layers = list(reparam_layers(model))
    model = fallow.merge(model)
    before = {name: model.get_submodule(name).weight.detach().clone() for name in layers}
    assert wake(model, layers, revive, seed=0) == sum(int((weight == 0).sum()) for weight in before.values())
    for name, weight in before.items():
        woken, asleep = model.get_submodule(name).weight.detach(), weight == 0
        assert torch.equal(woken[~asleep], weight[~asleep])
        if revive == "zeros":
            assert not woken[asleep].any()
        else:
            assert float(woken[asleep].std()) == pytest.approx(float(weight[~asleep].std()), rel=0.15)
            assert woken[asleep].all()


def test_a_dense_stage_wakes_the_weights_of_the_stage_before(tmp_path: Path) -> None:
    from tests.run.tiny import results, run, write_recipe

    recipe = write_recipe(tmp_path / "recipe")
    done = run(
        recipe, tmp_path / "run", "--stages.pretrain.method.revive", "normal", "--stages.tune.optimizer.lr", "1e-12"
    )
    assert done.returncode == 0, done.stderr
    from transformers import AutoModelForCausalLM

    for stage, share in (("pretrain", 0.25), ("tune", 1.0)):
        weight = (
            AutoModelForCausalLM.from_pretrained(tmp_path / "run" / stage / "model").transformer.h[0].mlp.c_fc.weight
        )
        assert float((weight != 0).float().mean()) == share, stage
    assert results(tmp_path / "run")["rows"][0]["sparsity"] == 0.75


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 75}, "below 1. Did you mean 0.75"),
        ({"sparsity": 1.0}, "at least 0 and below 1"),
        ({"sparsity": -0.1}, "at least 0 and below 1"),
        ({"sparsity": float("nan")}, "must be a finite number"),
        ({"sparsity": 0.75, "support": "2:4"}, "Write sparsity 0.5, or support uniform"),
        ({"sparsity": 0.5, "support": "2:4", "distribution": "erk"}, "distribution erk has no effect"),
        ({"sparsity": 0.5, "support": "blocks:4"}, 'Did you mean "block:16"'),
        ({"sparsity": 0.5, "distribution": "ek"}, "Did you mean erk"),
    ],
)
def test_mistakes_are_named(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Sparse(**settings)


def test_unknown_settings_are_named() -> None:
    with pytest.raises(UserError, match='Did you mean "sparsity"'):
        method_of("sparse", sparsty=0.5)
    with pytest.raises(UserError, match="needs sparsity"):
        method_of("sparse")
