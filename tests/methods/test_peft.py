"""Method peft: PEFT is its own oracle, for outputs, texts and files."""

from pathlib import Path

import pytest
import torch
from torch import nn

import fallow
from fallow.accounting.flops import count_flops
from fallow.accounting.parameters import count_parameters
from fallow.accounting.planned import plan_model
from fallow.errors import UserError
from fallow.evaluate.beam import beam_search
from fallow.evaluate.decoding import Decoding
from fallow.evaluate.prompts import positions_of
from fallow.hf.export import export
from fallow.methods import method_of
from fallow.train import Optimizer
from fallow.train.optimizers import groups_of
from fallow.train.recompute import recompute_activations
from fallow.tuners.cache import cache_argument
from tests.conformance.families import CONFIGS, tiny, tokens

peft = pytest.importorskip("peft")

SETTINGS = {
    "prefix": {"kind": "prefix", "tokens": 5, "hidden": 16},
    "p_tuning_v2": {"kind": "p_tuning_v2", "tokens": 5},
    "ia3": {"kind": "ia3"},
}
kinds = pytest.mark.parametrize("kind", SETTINGS)


def tuned(family: str, kind: str) -> nn.Module:
    """A model with trained numbers beside it that differ from what they begin with."""
    model = tiny(family)
    fallow.convert(model, "peft", seed=1, **SETTINGS[kind])
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model


def logits(model: nn.Module) -> torch.Tensor:
    mask = torch.ones_like(tokens())
    mask[0, 9:] = 0
    return model.eval()(input_ids=tokens(), attention_mask=mask).logits


@kinds
@pytest.mark.parametrize(
    "family", ["gpt2", "llama", "qwen3", "gpt_neox", "opt", "bert classifier", "roberta classifier"]
)
def test_stock_peft_gives_the_same_from_the_folder(family: str, kind: str, tmp_path: Path) -> None:
    model = tuned(family, kind)
    expected = logits(model)
    assert (expected - logits(tiny(family))).abs().max() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(logits(model), expected)  # with a cache, as without
    method_of("peft", **SETTINGS[kind]).write_extra_files(model, tmp_path)
    loaded = peft.PeftModel.from_pretrained(tiny(family), tmp_path / "adapter").eval()
    is_encoder = "classifier" in family
    knows_cache = cache_argument(tiny(family)) == "past_key_values"  # the one name by which PEFT 0.21 hands it over
    if knows_cache or kind == "ia3" or not is_encoder:  # it refuses classifiers whose argument has another name
        torch.testing.assert_close(logits(loaded), expected, rtol=0, atol=1e-6)
    if not is_encoder:
        told = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        ours = model.generate(tokens(), **told)
        assert ours.equal(model.generate(tokens(), **told, use_cache=False))
        if knows_cache:
            assert ours.equal(loaded.generate(input_ids=tokens(), **told))
    fallow.save(model, tmp_path / "kept")
    assert logits(fallow.load(tmp_path / "kept")).equal(expected)
    if kind == "ia3":
        names = dict(tiny(family).named_parameters()).keys()
        export(model, tmp_path / "merged")
        torch.testing.assert_close(logits(fallow.load(tmp_path / "merged")), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(logits(fallow.merge(model)), expected, rtol=0, atol=1e-5)
        assert dict(model.named_parameters()).keys() == names and all(p.requires_grad for p in model.parameters())
    else:
        with pytest.raises(UserError, match="is no part of the weights and cannot be merged"):
            model = fallow.merge(model)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_our_search_keeps_the_prefix_before_prompts_of_any_length(family: str) -> None:
    model = tuned(family, "p_tuning_v2").eval()
    prompts = [tokens()[0, :3].tolist(), tokens()[1].tolist(), tokens()[1, :1].tolist()]
    decoding = Decoding(decoder="lora", num_beams=3)
    together = beam_search(model, prompts, decoding, room=8, stops=[1])
    assert together == [beam_search(model, [prompt], decoding, room=8, stops=[1])[0] for prompt in prompts]
    greedy = beam_search(model, prompts[:1], Decoding(decoder="lora"), room=8, stops=[1])[0]
    ids = torch.tensor(prompts[:1])
    with torch.no_grad():
        for _ in range(8):
            ids = torch.cat((ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)), dim=1)
    assert ids[0, 3:].tolist() == greedy


def test_gradients_are_those_of_peft_also_where_blocks_are_computed_twice() -> None:
    """The network of kind prefix, too."""
    model = tuned("gpt2", "prefix")
    config = model.prefix.config
    other = peft.get_peft_model(tiny("gpt2"), config)
    other.prompt_encoder["default"].load_state_dict(model.prefix.encoder.state_dict())
    logits(other).sum().backward()
    expected = {name: p.grad for name, p in other.prompt_encoder["default"].named_parameters()}
    for recomputes in (False, True):
        if recomputes:
            recompute_activations(model)
        model.zero_grad()
        logits(model).sum().backward()
        for name, parameter in model.prefix.encoder.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name])


def test_only_what_is_beside_the_model_is_trained_and_counted() -> None:
    model = tuned("gpt2", "p_tuning_v2")
    assert fallow.count(model).trainable == 5 * 2 * 2 * 32
    assert positions_of(model) == 64 - 5
    bare, flops = count_flops(tiny("gpt2"), 12), count_flops(model, 12)
    assert flops.linear == bare.linear and flops.attention == bare.attention * 17 // 12
    assert 2 * flops.forward < flops.training < 3 * flops.forward
    assert count_flops(tuned("gpt2", "prefix"), 12).other == bare.other
    classifier = tuned("bert classifier", "ia3")
    trained = [name for name, p in classifier.named_parameters() if p.requires_grad]
    assert {name.split(".")[0] for name in trained if "ia3" not in name} == {"classifier"}
    groups = groups_of(classifier, method_of("peft", kind="ia3"), Optimizer(lr=1e-3, weight_decay=0.1))
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    by_name = {name: decays[id(p)] for name, p in classifier.named_parameters() if p.requires_grad}
    assert by_name["classifier.weight"] == 0.1 and not any(x for name, x in by_name.items() if "ia3" in name)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", ["prefix", "p_tuning_v2"])
def test_estimates_know_the_prefix(family: str, kind: str) -> None:
    model = plan_model(CONFIGS[family], method_of("peft", **SETTINGS[kind]))
    with torch.device("meta"):
        made = fallow.folder.build(CONFIGS[family])
        fallow.convert(made, "peft", **SETTINGS[kind])
    assert {t.name: t.shape for t in model.tensors} == {n: tuple(p.shape) for n, p in made.named_parameters()}
    assert model.parameters == count_parameters(made) and model.flops(24) == count_flops(made, 24)


def test_what_makes_no_sense_is_refused() -> None:
    for settings, said in (
        ({"kind": "adapter"}, r"PEFT has no bottleneck adapters \(Houlsby et al., 2019\).*kind: ia3"),
        ({"kind": "prefx"}, 'Did you mean "?prefix'),
        ({"kind": "ia3", "tokens": 5}, "tokens has no effect with kind ia3"),
        (
            {"kind": "p_tuning_v2", "hidden": 64},
            "hidden has no effect with kind p_tuning_v2. Remove it, or write kind: p",
        ),
        ({"kind": "prefix", "tokens": 0}, "tokens is 0, but it must be at least 1"),
    ):
        with pytest.raises(UserError, match=said):
            method_of("peft", **settings)
    with pytest.raises(UserError, match="targets has no effect with method peft"):
        fallow.convert(tiny("gpt2"), "peft", kind="prefix", targets=["c_attn"])
    with pytest.raises(UserError, match="looks at a window"):
        fallow.convert(tiny("mistral"), "peft", kind="prefix")
    with pytest.raises(UserError, match="of transformers with a head, not GPT2Model"):
        fallow.convert(tiny("gpt2").transformer, "peft", kind="prefix")


def test_without_the_library_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match=r'needs the library PEFT. Install it with pip install "fallow\[hf\]"'):
        fallow.convert(tiny("gpt2"), "peft", kind="prefix")
