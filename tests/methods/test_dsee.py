"""DSEE: where its entries lie, that no dense S exists, what is trained, and what is kept on disk."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import fallow
from fallow.errors import UserError
from fallow.files import read_sealed, write_sealed
from fallow.linear import Site, Terms, linear_sites
from fallow.methods import DSEE, method_of
from fallow.methods.base import reparam_layers
from fallow.random import Key
from fallow.supports import Support
from tests.conformance.families import tiny, tokens


def plant(model: nn.Module, name: str, positions: list[tuple[int, int]]) -> None:
    """Entries of W (d_out, d_in) that nobody could overlook."""
    module = model.get_submodule(name)
    weight = module.weight.data.t() if linear_sites(model)[name].transposed else module.weight.data
    for row, column in positions:
        weight[row, column] = 5.0


@pytest.mark.parametrize("support", ["decomposition", "magnitude"])
def test_the_support_is_that_of_the_weight_and_not_of_its_transpose(support: str) -> None:
    """In a fused Conv1D, stored (d_in, 3 d_in), and in the narrow values of grouped queries."""
    model = tiny("gpt2")
    name = "transformer.h.1.attn.c_attn"
    queries, keys, values = [(3, 17), (30, 1)], [(33, 2)], [(70, 9), (95, 31)]
    plant(model, name, queries + keys + values)
    fallow.convert(model, "dsee", rank=2, entries=2, support=support, targets=name)
    flat = model.get_submodule(name).support.flat()
    assert [tuple(divmod(int(p), 32)) for p in flat] == queries + values

    grouped = tiny("llama")
    name = "model.layers.0.self_attn.v_proj"
    assert linear_sites(grouped)[name].shape == (16, 32)
    plant(grouped, name, [(2, 29), (15, 0)])
    fallow.convert(grouped, "dsee", rank=2, entries=2, support=support, targets="v_proj")
    flat = grouped.get_submodule(name).support.flat()
    assert [tuple(divmod(int(p), 32)) for p in flat] == [(2, 29), (15, 0)]


def test_the_sum_is_the_papers() -> None:
    for scaled, factor in (("update", 3.0), ("factors", 1.0)):
        model = tiny("bert").double()
        before = model.bert.encoder.layer[0].attention.self.value.weight.detach().clone()
        fallow.convert(model, DSEE(rank=2, entries=4, alpha=6.0, scaled=scaled))
        layer = model.bert.encoder.layer[0].attention.self.value
        with torch.no_grad():
            layer.low_rank_b.normal_()
            layer.values.normal_()
        s = torch.zeros(32 * 32, dtype=torch.float64).scatter(0, layer.support.flat(), layer.values.detach())
        expected = before + 3.0 * layer.low_rank_b @ layer.low_rank_a + factor * s.view(32, 32)
        torch.testing.assert_close(layer.effective_weight(), expected)
        x = torch.randn(7, 32, dtype=torch.float64)
        torch.testing.assert_close(layer(x), x @ expected.t() + layer.bias)


def test_nothing_of_the_size_of_a_matrix_is_added_or_kept() -> None:
    model = tiny("gpt2")
    before = sum(p.numel() for p in model.parameters())
    fallow.convert(model, "dsee", rank=1, entries=3)
    added = 2 * 2 * (1 * (32 + 32) + 3)
    assert sum(p.numel() for p in model.parameters()) == before + added
    assert fallow.count(model).trainable == added
    layer = model.transformer.h[0].attn.c_attn
    kept: list[int] = []
    x = torch.randn(5, 32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.data_ptr()), t)[1], lambda t: t):
        layer(x)
    large = [p.data_ptr() for p in layer.parameters() if p.numel() >= 32 * 32]
    assert len(large) == 1 and kept.count(large[0]) == 1
    assert sum(t.numel() for t in layer.buffers() if t.numel() >= 32 * 32) == 0


def test_published_numbers_of_parameters() -> None:
    from fallow.accounting.planned import plan_model

    medium = {"model_type": "gpt2", "n_embd": 1024, "n_layer": 24, "n_head": 16}
    for config, rank, expected in (
        ({"model_type": "bert"}, 16, 589_824 + 384),
        ({"model_type": "bert"}, 8, 294_912 + 384),
        (medium, 4, 393_216 + 768),
        (medium, 2, 196_608 + 768),
    ):
        assert plan_model(config, DSEE(rank=rank)).parameters.trainable == expected


def test_frozen_values_stay() -> None:
    model = tiny("llama")
    fallow.convert(model, "dsee", rank=1, values="frozen")
    assert not any(layer.values.requires_grad for layer in reparam_layers(model).values())
    assert all(layer.low_rank_b.requires_grad for layer in reparam_layers(model).values())


def test_chosen_supports_travel_with_the_weights_and_are_checked(tmp_path: Path) -> None:
    """Loading begins with random weights, from which other supports would be chosen."""
    model = tiny("gpt2")
    fallow.convert(model, "dsee", rank=2, entries=4)
    supports = {name: layer.support.digest() for name, layer in reparam_layers(model).items()}
    fallow.save(model, tmp_path)
    loaded = fallow.load(tmp_path)
    assert {name: layer.support.digest() for name, layer in reparam_layers(loaded).items()} == supports
    assert torch.equal(loaded(input_ids=tokens()).logits, model(input_ids=tokens()).logits)
    with safe_open(tmp_path / "fallow.safetensors", framework="pt") as file:
        assert file.get_tensor("transformer.h.0.attn.c_attn.positions").dtype == torch.int32
    fallow.save(loaded, tmp_path / "again")
    assert (tmp_path / "again" / "fallow.safetensors").read_bytes() == (tmp_path / "fallow.safetensors").read_bytes()

    stored = json.dumps(read_sealed(tmp_path / "fallow.json", ""))
    digest = next(iter(supports.values()))
    write_sealed(tmp_path / "fallow.json", json.loads(stored.replace(digest, "0" * len(digest))))
    with pytest.raises(UserError, match="does not have the checksum that was saved with it"):
        fallow.load(tmp_path)


def test_supports_that_were_chosen_before_can_be_given() -> None:
    first = tiny("gpt2")
    fallow.convert(first, "dsee", rank=2, entries=4)
    supports = {name: layer.support for name, layer in reparam_layers(first).items()}
    second = tiny("gpt2")
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.normal_()
    fallow.convert(second, "dsee", rank=2, entries=4, supports=supports)
    for name, layer in reparam_layers(second).items():
        assert layer.support.digest() == supports[name].digest()


def test_a_method_may_give_supports_itself() -> None:
    """As anybody may write one: benchmarks/studies/residual.py does."""

    class Given(DSEE):
        def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
            plan = DSEE.plan(self, sites, key)
            return {name: terms.with_support(last(sites[name].shape), None) for name, terms in plan.items()}

    def last(shape: tuple[int, int]) -> Support:
        return Support.from_flat(shape, np.arange(shape[0] * shape[1])[-3:])

    model = tiny("llama")
    fallow.convert(model, Given(rank=2, entries=3))
    layers = reparam_layers(model).values()
    assert layers and all(layer.support.digest() == last(layer.site.shape).digest() for layer in layers)


def test_gradients_can_choose() -> None:
    model = tiny("llama")
    names = [name for name in linear_sites(model) if name.endswith(("q_proj", "v_proj"))]
    fisher = {name: torch.rand(linear_sites(model)[name].shape) for name in names}
    fallow.convert(model, "dsee", rank=2, entries=3, support="gradient", fisher=fisher)
    for name, layer in reparam_layers(model).items():
        assert layer.support.flat().tolist() == sorted(fisher[name].view(-1).topk(3).indices.tolist())
    with pytest.raises(UserError, match="support gradient needs"):
        fallow.convert(tiny("llama"), "dsee", rank=2, support="gradient")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"entries": 0}, "entries is 0, but it must be at least 1. Without entries it is method lora"),
        ({"rank": 0}, "rank is 0"),
        ({"support": "grebsmo"}, "support is .*grebsmo.*, but it must be one of: decomposition"),
        ({"scaled": "both"}, "scaled is .*both.*, but it must be one of: update, factors"),
    ],
)
def test_mistakes_are_named(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        method_of("dsee", **{"rank": 2, **settings})


def test_more_entries_than_a_matrix_has_are_refused_before_anything_is_changed() -> None:
    model = tiny("gpt2")
    with pytest.raises(UserError, match=r"entries is 1,025, but transformer.h.0.attn.c_attn has only 1,024 in 32 x 32"):
        fallow.convert(model, DSEE(rank=2, entries=1025))
    assert not reparam_layers(model)
    assert dataclasses.replace(DSEE(rank=2), entries=1024).entries == 1024
