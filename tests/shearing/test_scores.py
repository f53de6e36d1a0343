"""Scores against brute force: weights that vanish, gradients of weights, models without a layer."""

import pytest
import torch
from torch.nn import functional

from fallow.errors import UserError
from fallow.shearing.groups import groups_of
from fallow.shearing.kept import Kept
from fallow.shearing.scores.choose import by_scores, choose, choose_by_weights
from fallow.shearing.scores.depth import drop_one, influence
from fallow.shearing.scores.example import loss_of
from fallow.shearing.scores.inputs import input_scores
from fallow.shearing.scores.magnitude import magnitude
from fallow.shearing.scores.names import BY
from fallow.shearing.scores.taylor import taylor
from fallow.shearing.surgery import cut
from tests.conformance.families import tokens
from tests.shearing.tiny import facts, model_of, smaller


def examples(num: int = 2):
    ids = tokens(2 * num, 13)
    return [(ids[i : i + 2, :-1], ids[i : i + 2, 1:]) for i in range(0, 2 * num, 2)]


def squares(model) -> float:
    return sum(float(p.detach().double().square().sum()) for p in model.parameters() if p.ndim == 2)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_magnitude_is_what_vanishes_with_a_unit(name) -> None:
    model = model_of(name)
    family, source = facts(model)
    scores = magnitude(family, source, model.named_parameters())
    whole = squares(model)

    def without(**kept) -> float:
        return whole - squares(cut(model, Kept.of(source, **kept)))

    inner = [i for i in range(source.inner) if i != 5]
    assert without(inner=[inner] * 2) == pytest.approx(float(scores.inner_lm[:, 5].sum()), rel=1e-5)
    assert without(layers=[1]) == pytest.approx(float(scores.layers_l[0]), rel=1e-5)
    if name == "llama":
        hidden = [i for i in range(32) if i >= 4]
        assert without(hidden=hidden) == pytest.approx(float(scores.hidden_d[:4].sum()), rel=1e-5)
        group = groups_of(source, source.with_sizes(heads=2, kv_heads=1))
        by_pair = scores.by_group(group)["heads"]
        assert without(heads=[[2, 3]] * 2) == pytest.approx(float(by_pair[:, 0].sum()), rel=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_taylor_is_weight_times_gradient(name) -> None:
    model = model_of(name)
    family, source = facts(model)
    groups = groups_of(source, smaller(source))
    example = examples(1)
    scores = taylor(model, family, source, groups, example)
    loss_of(model, example[0]).backward()
    for number in range(2):
        down = model.get_submodule(family.in_layer(number, family.mlp_out)).weight
        product = (down * down.grad).sum(0 if name == "llama" else 1)
        torch.testing.assert_close(scores["inner"][number].float(), product.abs(), rtol=1e-4, atol=1e-7)
        out = model.get_submodule(family.in_layer(number, family.attention_out)).weight
        product = (out * out.grad).sum(0 if name == "llama" else 1).view(4, 8).sum(1).abs()
        torch.testing.assert_close(scores["heads"][number].flatten().float(), product, rtol=1e-4, atol=1e-7)
    assert all(p.requires_grad for p in model.parameters())
    assert float(scores["hidden"].min()) > 0


@pytest.mark.parametrize("kind", ["activation", "wanda", "fluctuation"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_scores_of_inputs(name, kind) -> None:
    model = model_of(name)
    family, source = facts(model)
    seen = []
    down = model.get_submodule(family.in_layer(1, family.mlp_out))
    handle = down.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().flatten(0, -2)))
    with torch.no_grad():
        for example in examples():
            loss_of(model, example)
    handle.remove()
    x = torch.cat(seen).double()
    weight = (down.weight.t() if name == "gpt2" else down.weight).detach().double()
    expected = {
        "activation": x.square().mean(0).sqrt(),
        "wanda": weight.abs().sum(0) * x.square().mean(0).sqrt(),
        "fluctuation": weight.square().sum(0) * x.var(0, unbiased=False),
    }[kind]
    scores = input_scores(model, family, source, examples(), kind)
    torch.testing.assert_close(scores.inner_lm[1], expected, rtol=1e-4, atol=1e-8)
    assert float(scores.hidden_d.min()) > 0
    assert float(scores.heads_lh.min()) > 0


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "opt"])
def test_depth_by_influence_and_by_absence(name) -> None:
    model = model_of(name)
    family, source = facts(model)
    found = influence(model, family, source, examples(1))
    with torch.no_grad():
        states = model(examples(1)[0][0], output_hidden_states=True).hidden_states
        first = 1 - functional.cosine_similarity(states[0], states[1], dim=-1).mean()
        assert float(found[0]) == pytest.approx(float(first), rel=1e-4)
        losses = drop_one(model, family, source, examples())
        for number in range(2):
            left = cut(model, Kept.of(source, layers=[1 - number]))
            expected = sum(float(loss_of(left, example)) for example in examples()) / 2
            assert float(losses[number]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("by", BY)
def test_every_score_leads_to_the_target(by) -> None:
    model = model_of("llama")
    _, source = facts(model)
    target = smaller(source)
    given = () if by in ("random", "magnitude") else examples()
    kept = choose(model, target, by, given, seed=3)
    assert kept.target == target
    again = choose(model, target, by, given, seed=3)
    assert torch.equal(kept.hidden_d, again.hidden_d)
    assert torch.equal(kept.inner_lm, again.inner_lm)
    assert facts(cut(model, kept))[1] == target


def test_the_best_units_stay() -> None:
    _, source = facts(model_of("llama"))
    groups = groups_of(source, source.with_sizes(hidden=4, inner=2, layers=1))
    scores = {"hidden": torch.arange(32.0), "inner": -torch.arange(128.0).view(2, 64), "layers": torch.tensor([1.0, 0])}
    kept = by_scores(source, groups, scores)
    assert kept.layers == (0,)
    assert kept.hidden_d.tolist() == [28, 29, 30, 31]
    assert kept.inner_lm.tolist() == [[0, 1]]
    with pytest.raises(UserError, match="scores of hidden are not finite"):
        by_scores(source, groups, scores | {"hidden": torch.full((32,), float("nan"))})


def test_weights_that_come_one_by_one_say_the_same() -> None:
    model = model_of("llama")
    family, source = facts(model)
    groups = groups_of(source, smaller(source))
    for by in ("magnitude", "random"):
        whole = choose(model, smaller(source), by)
        piecewise = choose_by_weights(family, source, groups, by, iter(model.state_dict().items()))
        assert torch.equal(whole.hidden_d, piecewise.hidden_d)
        assert torch.equal(whole.heads_lh, piecewise.heads_lh)


def test_what_needs_text_says_so() -> None:
    model = model_of("llama")
    family, source = facts(model)
    groups = groups_of(source, smaller(source))
    with pytest.raises(UserError, match="by wanda .* measures the model on text"):
        choose(model, smaller(source), "wanda")
    with pytest.raises(UserError, match="measures the model on text"):
        choose(model, smaller(source), "magnitude", depth="loss")
    with pytest.raises(UserError, match="needs a model in memory"):
        choose_by_weights(family, source, groups, "taylor", [])
