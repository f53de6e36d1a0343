"""LoRA, BitFit and top blocks: what they adapt, what they train, and that nothing else moves."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import fallow
from fallow.errors import UserError
from fallow.linear import Site
from fallow.linear.roles import roles_of
from fallow.methods import LoRA, Top, method_of
from fallow.methods.base import reparam_layers
from tests.conformance.families import tiny, tokens


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def train(model: nn.Module, steps: int = 3) -> None:
    update = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        logits = model(input_ids=tokens()).logits
        functional.cross_entropy(logits.flatten(0, 1), tokens().flatten()).backward()
        update.step()
        update.zero_grad()


@pytest.mark.parametrize("modules", [("q", "v"), ("k",), ("q", "k", "v", "o")])
def test_a_fused_layer_is_adapted_as_three_separate_ones_would_be(modules: tuple) -> None:
    """Q, K and V of GPT-2 by hand, in float64: only the asked rows change, each by factors of its own."""
    model = tiny("gpt2").double()
    stock = model.transformer.h[0].attn.c_attn.weight.detach().t().clone()
    fallow.convert(model, LoRA(rank=2, alpha=6.0, modules=modules))
    layer = model.transformer.h[0].attn.c_attn
    inside = [role for role in "qkv" if role in modules]
    assert layer.low_rank_a.shape == (2 * len(inside), 32) and layer.low_rank_b.shape == (32 * len(inside), 2)
    with torch.no_grad():
        layer.low_rank_b.normal_(generator=torch.Generator().manual_seed(0))
    change = layer.effective_weight().detach() - stock
    for number, role in enumerate("qkv"):
        rows = change[32 * number : 32 * number + 32]
        if role not in modules:
            assert not rows.any()
            continue
        at = inside.index(role)
        a, b = layer.low_rank_a[2 * at : 2 * at + 2], layer.low_rank_b[32 * at : 32 * at + 32]
        torch.testing.assert_close(rows, 6.0 / 2 * b @ a, rtol=1e-12, atol=1e-12)
        assert torch.linalg.matrix_rank(rows) == 2
    assert ("transformer.h.0.attn.c_proj" in reparam_layers(model)) == ("o" in modules)


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "opt"])
def test_only_factors_are_trained_and_the_rest_stays_to_the_bit(family: str) -> None:
    model = tiny(family)
    before = {name: p.detach().clone() for name, p in model.state_dict().items()}
    fallow.convert(model, "lora", rank=2)
    assert all(name.endswith(("low_rank_a", "low_rank_b")) for name in trained(model))
    layers = list(reparam_layers(model))
    train(model)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    model = fallow.merge(model)
    assert all(p.requires_grad for p in model.parameters())
    after = model.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {f"{name}.weight" for name in layers}


def test_training_begins_at_the_pretrained_model() -> None:
    model = tiny("qwen2")
    expected = model(input_ids=tokens()).logits
    fallow.convert(model, "lora", rank=2)
    torch.testing.assert_close(model(input_ids=tokens()).logits, expected, rtol=0, atol=1e-6)


def test_the_frozen_base_is_the_very_memory_of_the_weight() -> None:
    model = tiny("llama")
    address = model.model.layers[0].self_attn.q_proj.weight.data_ptr()
    fallow.convert(model, "lora", rank=2)
    assert model.model.layers[0].self_attn.q_proj.base.data_ptr() == address


@pytest.mark.parametrize("path", ["", "materialise"])
def test_dropout_falls_on_the_inputs_of_the_factors_alone(path: str) -> None:
    model = tiny("gpt2").double()
    fallow.convert(model, LoRA(rank=2, dropout=0.5), path=path)
    layer = model.transformer.h[0].attn.c_attn
    with torch.no_grad():
        layer.low_rank_b.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(5, 32, dtype=torch.float64)
    layer.train()
    torch.manual_seed(1)
    ours = layer(x)
    torch.manual_seed(1)
    dropped = functional.dropout(x, 0.5)
    change = layer.effective_weight() - layer.base
    torch.testing.assert_close(ours, functional.linear(x, layer.base, layer.bias) + dropped @ change.t())
    layer.eval()
    torch.testing.assert_close(layer(x), functional.linear(x, layer.effective_weight(), layer.bias))


def test_the_head_of_a_task_is_trained_and_the_pooler_is_not() -> None:
    import transformers

    config = tiny("bert").config
    model = transformers.BertForSequenceClassification(config)
    for method, settings in (("lora", {"rank": 2}), ("bitfit", {}), ("top", {"blocks": 1})):
        model = fallow.merge(model)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        fallow.convert(model, method, **settings)
        assert {"classifier.weight", "classifier.bias"} <= trained(model)
        assert "bert.pooler.dense.weight" not in trained(model)


def test_bitfit_trains_biases() -> None:
    model = tiny("gpt2")
    report = fallow.convert(model, "bitfit")
    assert not report.converted
    assert trained(model) == {name for name, p in model.named_parameters() if p.ndim == 1 and name.endswith("bias")}
    with pytest.raises(UserError, match="bitfit would train nothing of this LlamaForCausalLM"):
        fallow.convert(tiny("llama"), "bitfit")


def test_top_trains_the_last_blocks() -> None:
    model = tiny("llama")
    fallow.convert(model, "top", blocks=1)
    assert trained(model) == {name for name, _ in model.named_parameters() if name.startswith("model.layers.1.")}
    with pytest.raises(UserError, match="blocks is 3, but the model has 2"):
        fallow.convert(tiny("llama"), Top(blocks=3))


def test_the_published_numbers_of_gpt2_medium() -> None:
    """LoRA's table 3: 25.19M for the top two blocks; DSEE's 0.39M for rank 4 on queries and values."""
    from fallow.accounting.planned import plan_model

    config = {"model_type": "gpt2", "n_embd": 1024, "n_layer": 24, "n_head": 16}
    assert round(plan_model(config, Top()).parameters.trainable / 1e6, 2) == 25.19
    assert plan_model(config, LoRA(rank=4)).parameters.trainable == 393_216


def test_roles_by_family() -> None:
    for family, num in (("gpt2", 2), ("llama", 4), ("opt", 4), ("bert", 4), ("roberta", 4), ("gpt_neox", 2)):
        from fallow.linear import linear_sites

        block = [n for n in linear_sites(tiny(family)) if ".1." in n]
        roles = [roles_of(linear_sites(tiny(family))[name]) for name in block]
        assert sum(bool(found) for found in roles) == num, family
        assert set().union(*roles) == {"q", "k", "v", "o"}, family
    assert not roles_of(Site("h.0.mlp.c_proj", (4, 8), (4,), True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank is 0, but it must be at least 1"),
        ({"rank": 4, "alpha": 0.0}, "alpha is 0, but it must be above 0"),
        ({"rank": 4, "dropout": 10.0}, "Did you mean 0.1"),
        ({"rank": 4, "modules": ("query",)}, "modules.0 is .*query.*, but it must be one of: q, k, v, o"),
    ],
)
def test_mistakes_are_named(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        method_of("lora", **settings)


def test_a_model_without_such_projections_is_refused_with_what_to_write() -> None:
    net = nn.Sequential(nn.ModuleList([nn.Linear(8, 8)]))
    with pytest.raises(UserError, match=r"modules is q, v, but no target layer .* end in: 0. Write modules: \[\]"):
        fallow.convert(net, "lora", rank=2)
    with pytest.raises(UserError, match="end in: c_fc"):
        fallow.convert(tiny("gpt2"), "lora", rank=2, targets="c_fc")
    assert len(fallow.convert(tiny("gpt2"), LoRA(rank=2, modules=()), targets="c_fc").converted) == 2
