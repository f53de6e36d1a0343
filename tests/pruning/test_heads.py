"""Structured pruning: which heads go, and that the smaller model computes what the larger one does without them."""

from pathlib import Path

import pytest
import torch
from torch import nn

import fallow
from fallow.accounting.flops import count_flops
from fallow.errors import UserError
from fallow.methods.base import reparam_layers
from fallow.pruning import Heads, prune
from fallow.pruning.attention import attentions
from fallow.pruning.heads import HEADS, choose_heads, cut_heads
from fallow.random import Key
from tests.conformance.families import tiny, tokens
from tests.pruning.tuned import by_hand, tuned

FAMILIES = ["gpt2", "llama", "qwen3", "opt", "bert", "roberta"]


def gate(model: nn.Module, gone: dict[str, list[int]]) -> None:
    """Make heads say nothing, without cutting: zero what the output projection reads of them."""
    for attention in attentions(model):
        lines = attention.lines("o", torch.tensor(gone[attention.name], dtype=torch.int64))
        output = model.get_submodule(attention.parts["o"].name)

        def hook(_: nn.Module, args: tuple, lines: torch.Tensor = lines) -> tuple:
            return (args[0].index_fill(-1, lines, 0.0),)

        output.register_forward_pre_hook(hook)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("modules", [("q", "v"), ("q", "k", "v", "o")], ids=["q v", "all"])
def test_a_cut_model_computes_what_the_whole_one_does_without_these_heads(family: str, modules: tuple) -> None:
    model, whole = tuned(family, modules=modules), tuned(family, modules=modules)
    kept = choose_heads(model, Heads(num=1), Key(0))
    units = attentions(whole)[0].num_units
    gate(whole, {name: [u for u in range(units) if u not in stay] for name, stay in kept.items()})
    before = sum(p.numel() for p in model.parameters())
    report = prune(model, Heads(num=1))
    assert report.heads == kept and sum(p.numel() for p in model.parameters()) < before
    torch.testing.assert_close(model(input_ids=tokens()).logits, whole(input_ids=tokens()).logits, rtol=0, atol=1e-12)
    for name, layer in reparam_layers(model).items():
        assert layer.low_rank_a.shape[1] == layer.in_features, name
        assert layer.effective_weight().shape == layer.site.shape
    ours = model(input_ids=tokens()).logits
    model = fallow.merge(model)
    torch.testing.assert_close(model(input_ids=tokens()).logits, ours, rtol=0, atol=1e-12)


def test_the_score_is_the_sum_over_the_rows_of_queries_and_values() -> None:
    model = tuned("gpt2")
    kept = choose_heads(model, Heads(num=2), Key(0))
    for name, stay in kept.items():
        change = by_hand(model, f"{name}.c_attn").abs()
        sums = [float(change[8 * h : 8 * h + 8].sum() + change[64 + 8 * h : 72 + 8 * h].sum()) for h in range(4)]
        assert stay == sorted(sorted(range(4), key=lambda h: sums[h])[2:])


def test_grouped_queries_go_with_their_keys() -> None:
    model = tuned("llama")
    assert {(a.num_units, a.groups, a.head_size) for a in attentions(model)} == {(2, 2, 8)}
    prune(model, Heads(num=1))
    attention = model.model.layers[0].self_attn
    shapes = [tuple(p.base.shape if hasattr(p, "base") else p.weight.shape)
              for p in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)]  # fmt: skip
    assert shapes == [(16, 32), (8, 32), (8, 32), (32, 16)]


def test_a_budget_over_all_layers_leaves_one_head_in_each() -> None:
    model = tuned("bert")
    with torch.no_grad():
        for name, layer in reparam_layers(model).items():
            if ".1." in name:
                layer.low_rank_b.mul_(1e-3)
                layer.values.mul_(1e-3)
    report = prune(model, Heads(ratio=0.5))
    assert [len(stay) for stay in report.heads.values()] == [3, 1]
    assert [a.num_units for a in attentions(model)] == [3, 1]
    assert getattr(model, HEADS) == report.heads
    model(input_ids=tokens())


def test_operations_fall_with_the_heads() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for family in ("gpt2", "bert"):
        model = tuned(family, "lora").float()
        model.set_attn_implementation("eager")
        prune(model, Heads(ratio=0.4))
        model = fallow.merge(model)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=tokens(1, 12))
        counted = count_flops(model, 12)
        assert counter.get_total_flops() == (counted.forward - counted.softmax) * 12


@pytest.mark.parametrize("family", ["gpt2", "bert", "roberta", "llama"])
def test_folders_of_ours_rebuild_the_smaller_shapes(family: str, tmp_path: Path) -> None:
    import transformers

    model = tuned(family).float()
    prune(model, Heads(ratio=0.4) if family != "llama" else Heads(num=1))
    expected = model(input_ids=tokens()).logits
    fallow.save(model, tmp_path / "apart")
    loaded = fallow.load(tmp_path / "apart")
    assert torch.equal(loaded(input_ids=tokens()).logits, expected)
    assert [a.num_units for a in attentions(loaded)] == [a.num_units for a in attentions(model)]
    model = fallow.merge(model)
    model.save_pretrained(tmp_path / "merged")
    merged = fallow.load(tmp_path / "merged")
    torch.testing.assert_close(merged(input_ids=tokens()).logits, expected, rtol=0, atol=1e-5)
    if family == "llama":
        stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(stock(input_ids=tokens()).logits, expected, rtol=0, atol=1e-5)
    else:
        with pytest.raises(ValueError, match=r"not merged. Load it with fallow.load|heads"):
            transformers.AutoConfig.from_pretrained(tmp_path / "merged")


def test_heads_can_be_cut_twice(tmp_path: Path) -> None:
    model = tuned("gpt2").float()
    first = prune(model, Heads(num=1)).heads
    second = prune(model, Heads(num=1)).heads
    name = next(iter(first))
    assert getattr(model, HEADS)[name] == [first[name][unit] for unit in second[name]]
    expected = model(input_ids=tokens()).logits
    fallow.save(model, tmp_path)
    assert torch.equal(fallow.load(tmp_path)(input_ids=tokens()).logits, expected)


def test_a_cut_model_generates_and_trains() -> None:
    model = tuned("gpt2").float()
    prune(model, Heads(num=2))
    with torch.no_grad():
        cached = model.generate(tokens(1, 4), max_new_tokens=6, do_sample=False)
        plain = model.generate(tokens(1, 4), max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(cached, plain)
    model.train()(input_ids=tokens()).logits.sum().backward()
    assert all(layer.values.grad is not None for layer in reparam_layers(model).values())


def test_stock_models_can_be_cut_by_their_weights() -> None:
    model = tiny("opt")
    prune(model, Heads(num=1, score="weight"))
    model(input_ids=tokens())
    with pytest.raises(UserError, match="no projection of attention has an update to go by"):
        prune(tiny("opt"), Heads(num=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num": 4}, r"num is 4, but transformer.h.0.attn has 4 heads, and one has to stay. Write at most 3"),
        ({"num": 1, "ratio": 0.5}, r"are given together. Write one of them"),
        ({}, r"are both missing. Write one of them"),
        ({"ratio": 1.0}, "ratio is 1, but it must be at least 0 and below 1"),
        ({"num": -1}, "num is -1"),
    ],
)
def test_mistakes_are_named(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prune(tuned("gpt2"), Heads(**settings))


def test_models_and_heads_that_are_not_there_are_named() -> None:
    with pytest.raises(UserError, match="the heads of GPTNeoXForCausalLM cannot be told apart"):
        prune(tuned("gpt_neox"), Heads(num=1))
    with pytest.raises(UserError, match="which is no attention of this GPT2LMHeadModel"):
        cut_heads(tiny("gpt2"), {"transformer.h.7.attn": [0]})
    with pytest.raises(UserError, match=r"has heads 0 to 3, but those to keep are \[\]"):
        cut_heads(tiny("gpt2"), {"transformer.h.0.attn": []})


@pytest.mark.parametrize("num", [1, 2, 3])
def test_a_llama_whose_heads_no_longer_divide_its_width_is_kept(num: int, tmp_path: Path) -> None:
    model = _of_type("llama")
    prune(model, Heads(num=num, score="weight"))
    expected = model(input_ids=tokens()).logits
    fallow.save(model, tmp_path)
    loaded = fallow.load(tmp_path)
    assert torch.equal(loaded(input_ids=tokens()).logits, expected)
    assert [a.num_units for a in attentions(loaded)] == [8 - num] * 2


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("olmo2", "q_norm.weight has 64 numbers for all heads together"),
        ("olmo3", "q_norm.weight has 64 numbers for all heads together"),
        ("olmoe", "q_norm.weight has 64 numbers for all heads together"),
        ("gpt_oss", "sinks has 8 numbers for all heads together"),
        ("qwen3_next", "the heads of Qwen3NextForCausalLM cannot be told apart"),
    ],
)
def test_attention_with_more_of_its_heads_than_projections_is_refused(kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prune(_of_type(kind), Heads(num=1, score="weight"))


def _of_type(kind: str) -> nn.Module:
    import transformers

    config = transformers.AutoConfig.for_model(
        kind, vocab_size=96, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=64,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config).eval()
