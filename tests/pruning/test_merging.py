"""Merging a pruned model: zeros filled and said so, or kept at a told price."""

import json
import logging
from pathlib import Path

import pytest
import torch

import fallow
from fallow.cli.main import main
from fallow.methods.base import reparam_layers
from fallow.pruning import Weights, prune
from tests.conformance.families import tiny, tokens
from tests.pruning.tuned import by_hand, tuned


def pruned(family: str = "gpt2") -> torch.nn.Module:
    model = tuned(family)
    prune(model, Weights(ratio=0.5, scope="matrix", keys="kept"))
    return model


def test_filling_is_told_before_and_when_it_happens(caplog: pytest.LogCaptureFixture) -> None:
    model = pruned()
    expected = model(input_ids=tokens()).logits
    found = fallow.filling(model)
    assert found.zeros == found.entries == 2 * 2 * 32 * 32 // 2
    with caplog.at_level(logging.WARNING):
        model = fallow.merge(model)
    assert "merging fills 2,048 of 2,048 zeros: these layers are dense then" in caplog.text
    torch.testing.assert_close(model(input_ids=tokens()).logits, expected, rtol=0, atol=1e-12)
    assert int((model.transformer.h[0].attn.c_attn.weight == 0).sum()) == 0


def test_keeping_projects_the_update_and_tells_the_norm_that_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    model = pruned("bert")
    layers = reparam_layers(model)
    expected, lost, whole = {}, 0.0, 0.0
    for name, layer in layers.items():
        change, base = by_hand(model, name), layer.base.detach()
        expected[name] = torch.where(base == 0, 0.0, base + change)
        lost += float(change[base == 0].square().sum())
        whole += float(change.square().sum())
    found = fallow.filling(model)
    assert found.lost == pytest.approx((lost / whole) ** 0.5)
    assert set(found.by_layer) == set(layers) and 0 < found.lost < 1
    with caplog.at_level(logging.WARNING):
        model = fallow.merge(model, zeros="keep")
    assert f"leaves {found.lost:.1%} of the updates' norm out" in caplog.text
    for name, weight in expected.items():
        torch.testing.assert_close(model.get_submodule(name).weight.detach(), weight)


def test_dense_models_and_sparse_terms_are_no_matter_of_zeros(caplog: pytest.LogCaptureFixture) -> None:
    lora, sparse = tuned("llama", "lora"), tiny("llama")
    with torch.no_grad():
        lora.model.layers[0].self_attn.q_proj.base[0, 0] = 0.0  # a zero that lies there by chance
    fallow.convert(sparse, "sparse", sparsity=0.75)
    with caplog.at_level(logging.WARNING):
        for model in (lora, sparse):
            assert fallow.filling(model).entries == 0
            model = fallow.merge(model)
    assert not caplog.records


def test_tuning_a_sparse_model_is_told_too() -> None:
    model = tiny("gpt2")
    fallow.convert(model, "sparse", sparsity=0.75)
    model = fallow.merge(model)
    fallow.convert(model, "lora", rank=2, modules=())
    with torch.no_grad():
        for layer in reparam_layers(model).values():
            layer.low_rank_b.normal_()
    found = fallow.filling(model)
    assert found.entries == found.zeros > 0.7 * 2 * 12 * 32 * 32


def test_the_command_keeps_zeros_when_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = pruned().float()
    fallow.save(model, tmp_path / "apart")
    for zeros, share in (("fill", 1.0), ("keep", 0.5)):
        out = tmp_path / zeros
        assert main(["merge", str(tmp_path / "apart"), "--output", str(out), "--zeros", zeros, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        weight = fallow.load(out).transformer.h[1].attn.c_attn.weight
        assert float((weight[:, :32] != 0).float().mean()) == share
        assert (told["update_lost"] > 0) == (zeros == "keep")
        assert told["nonzero"] == fallow.count(fallow.load(out)).nonzero
