"""convert and merge as people call them: mistakes, copies, what a merged model is afterwards."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import fallow
from fallow.errors import UserError
from fallow.methods import Sparse
from tests.conformance.families import tiny, tokens


def converted(family: str = "gpt2", **settings: Any) -> Any:
    model = tiny(family)
    fallow.convert(model, "sparse", **{"sparsity": 0.75, **settings})
    return model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1}, "sparsity is 1, but it must be at least 0 and below 1"),
        ({"sparsity": -0.1}, "sparsity is -0.1, but it must be at least 0"),
        ({"sparsity": 75}, r"sparsity is 75, .* Did you mean 0.75\?"),
        ({"sparsity": float("nan")}, "sparsity is nan, but it must be a finite number"),
        ({"sparsity": "0.75"}, "but it must be a number. Write it without quotes"),
        ({"sparsity": None}, "sparsity is nothing, but it must be a number"),
        ({"sparsity": 0.9999999}, r"leaves no entry in transformer.h.0.attn.c_attn \(96 x 32\). Write at most 0.9996"),
        ({"revive": "ones"}, "revive .*one of: zeros, normal"),
        ({"parametrization": "mup"}, "parametrization .*one of: standard, supar"),
        ({"distribution": "erdos"}, "distribution .*one of: uniform, er, erk"),
        ({"support": 3}, "support is the number 3, but it must be text"),
        ({"support": "2:4"}, "a 2:4 support has sparsity 0.5 .* Write sparsity 0.5, or support uniform"),
        ({"support": "block:7"}, "needs a multiple of 7 rows, but this matrix has 32"),
        ({"support": "2:4", "sparsity": 0.5, "distribution": "erk"}, "distribution erk has no effect with support 2:4"),
        ({"sparcity": 0.5}, 'Did you mean "sparsity"'),
        ({"targets": "q_proj"}, r'targets "q_proj" match nothing in GPT2LMHeadModel.*c_attn, c_fc, c_proj, lm_head'),
        ({"targets": ""}, "targets holds '', but it must hold names of layers"),
        ({"targets": [3]}, "targets holds 3, but it must hold names of layers"),
        ({"targets": ["lm_head"]}, "lm_head shares its weight with transformer.wte.*Leave it out of targets"),
        ({"seed": -1}, "seed is -1, but it must be a whole number of at least 0"),
        ({"seed": None}, "seed is None"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"path": "materialize"}, 'Did you mean "materialise"'),
    ],
)
def test_mistakes_change_nothing(arguments: dict[str, Any], message: str) -> None:
    model = tiny("gpt2")
    with pytest.raises(UserError, match=message):
        fallow.convert(model, "sparse", **{"sparsity": 0.75, **arguments})
    assert type(model.transformer.h[0].attn.c_attn).__name__ == "Conv1D"
    assert fallow.count(model) == fallow.count(tiny("gpt2"))


@pytest.mark.parametrize(
    ("model", "method", "message"),
    [
        ({"a": 1}, "sparse", "model is a dict, but it must be a torch module"),
        (nn.Linear(4, 4), "sparse", "Linear holds no linear layer that could be converted"),
        (nn.Sequential(nn.Linear(4, 4)), "sparse", r"has no repeated blocks.*targets=\['0'\]"),
        (nn.Sequential(nn.Linear(4, 4)), Sparse, "method is .*Sparse.*Write convert"),
        (nn.Sequential(nn.Linear(4, 4)), None, "method is None"),
        (nn.Sequential(nn.Linear(4, 4)), "spars", 'Did you mean "sparse"'),
    ],
)
def test_mistakes_about_model_and_method(model: Any, method: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fallow.convert(model, method, **({"sparsity": 0.5} if isinstance(method, str) else {}))


def test_converting_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"converted already, by method sparse. Call fallow.merge\(model\) first"):
        fallow.convert(converted(), "sparse", sparsity=0.5)


def test_one_target_may_be_a_string() -> None:
    model = tiny("gpt2")
    report = fallow.convert(model, "sparse", sparsity=0.5, targets="c_attn")
    assert {layer.name.rpartition(".")[2] for layer in report.converted} == {"c_attn"}


def test_layers_that_share_a_weight_are_refused() -> None:
    layer = nn.Linear(8, 8)
    with pytest.raises(UserError, match=r"0.h.0 shares its weight with 0.h.1"):
        fallow.convert(nn.Sequential(nn.ModuleDict({"h": nn.ModuleList([layer, layer])})), "sparse", sparsity=0.5)


def test_merged_weights_are_trained_again_and_frozen_biases_stay_frozen() -> None:
    model = converted()
    model.transformer.h[0].attn.c_attn.bias.requires_grad_(False)
    frozen = model.transformer.h[0].attn.c_attn.bias
    state = torch.random.get_rng_state()
    model = fallow.merge(model)
    assert torch.equal(state, torch.random.get_rng_state())
    still = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert still == ["transformer.h.0.attn.c_attn.bias"]
    assert model.transformer.h[0].attn.c_attn.bias is frozen
    assert fallow.count(model).trainable == fallow.count(model).stored - frozen.numel()


def test_merging_what_is_not_converted_gives_it_back() -> None:
    model = tiny("gpt2")
    assert fallow.merge(model) is model


def test_counts_before_and_after_merging() -> None:
    model = converted()
    before = fallow.count(model)
    after = fallow.count(fallow.merge(model))
    assert (after.positions, after.nonzero) == (before.positions, before.nonzero)
    assert after.stored == after.positions > before.stored


def by_pickle(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


def by_torch(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("way", [copy.deepcopy, by_pickle, by_torch])
def test_copies_stand_alone(way: Any, tmp_path: Any) -> None:
    model = converted()
    twin = way(model)
    assert torch.equal(twin(tokens()).logits, model(tokens()).logits)
    with torch.no_grad():
        twin.transformer.h[0].mlp.c_fc.values.zero_()
    twin.save_pretrained(tmp_path)  # the copy's own, not the original's
    assert torch.equal(fallow.load(tmp_path)(tokens()).logits, twin(tokens()).logits)
    assert not torch.equal(model(tokens()).logits, twin(tokens()).logits)


def test_other_types() -> None:
    model = converted().half()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    assert fallow.merge(model).dtype == torch.float16


def test_meta_models_count_and_merge() -> None:
    with torch.device("meta"):
        model = converted()
    assert fallow.count(model) == fallow.count(converted())
    assert fallow.merge(model).transformer.h[0].attn.c_attn.weight.is_meta


def test_state_dicts_go_round() -> None:
    model, other = converted(seed=3), converted(seed=3)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.values.add_(1.0)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(tokens()).logits, other(tokens()).logits)


def test_generating_before_and_after_merging() -> None:
    model = converted()
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    before = model.generate(tokens(), **settings)
    assert torch.equal(before, fallow.merge(model).generate(tokens(), **settings))


def test_gradient_checkpointing_changes_nothing() -> None:
    plain, saving = converted().train(), converted()
    saving.gradient_checkpointing_enable()
    saving.train()
    for model in (plain, saving):
        model(tokens(), labels=tokens()).loss.backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name


def test_every_gradient_is_that_of_finite_differences() -> None:
    model = converted().double()  # not llama, whose norms compute in fp32 whatever the type
    ids = tokens(1, 6)

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])

    loss().backward()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            ends = []
            for sign in (1.0, -2.0, 1.0):
                parameter.add_(direction, alpha=sign * 1e-5)
                ends.append(loss())
        expected = (ends[0] - ends[1]) / 2e-5
        assert parameter.grad is not None, name
        torch.testing.assert_close((parameter.grad * direction).sum(), expected, rtol=1e-6, atol=1e-9, msg=name)


def test_t5_and_a_classifier_convert_and_merge() -> None:
    import transformers as hf

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    bert = hf.BertForSequenceClassification(hf.BertConfig(**small, vocab_size=96, num_labels=3)).eval()
    left = dict(fallow.convert(bert, "sparse", sparsity=0.5).left)
    assert set(left) == {"bert.pooler.dense", "classifier"}
    before = bert(tokens()).logits
    torch.testing.assert_close(fallow.merge(bert)(tokens()).logits, before)

    t5 = hf.T5ForConditionalGeneration(hf.T5Config(d_model=32, d_kv=8, num_heads=2, num_layers=2, d_ff=64)).eval()
    left = dict(fallow.convert(t5, "sparse", sparsity=0.5).left)
    assert set(left) == {"lm_head"}
    before = t5(input_ids=tokens(), decoder_input_ids=tokens()).logits
    torch.testing.assert_close(fallow.merge(t5)(input_ids=tokens(), decoder_input_ids=tokens()).logits, before)


def test_uploading_what_is_not_merged_is_refused(tmp_path: Any) -> None:
    model = converted()
    with pytest.raises(UserError, match=r"not merged.*Call fallow.merge\(model\) first"):
        model.push_to_hub("someone/model")
    with pytest.raises(UserError, match="not merged"):
        model.save_pretrained(tmp_path / "model", push_to_hub=True)
    assert not (tmp_path / "model").exists()
    assert "push_to_hub" not in vars(fallow.merge(model))


def test_a_sparse_model_is_not_put_on_other_supports() -> None:
    """Trained weights would vanish; a dense model gives them up on purpose, and the report says how many."""
    model = tiny("gpt2")
    fallow.convert(model, "sparse", sparsity=0.75, seed=0)
    model = fallow.merge(model)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    for settings in ({"seed": 1, "sparsity": 0.75}, {"seed": 0, "sparsity": 0.9}):
        with pytest.raises(UserError, match=r"would throw away [\d,]+ trained weights: the model is sparse already"):
            fallow.convert(model, "sparse", pretrained=True, **settings)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    assert fallow.convert(model, "sparse", sparsity=0.75, seed=0, pretrained=True).lost == 0
    dense = tiny("gpt2")
    report = fallow.convert(dense, "sparse", sparsity=0.75, seed=0, pretrained=True)
    assert report.lost == report.num_positions - report.num_entries
