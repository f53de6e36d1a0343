"""Unstructured pruning: which entries go, in which group, and that they stay away."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import fallow
from fallow.errors import UserError
from fallow.linear.inputs import dense_weight
from fallow.methods.base import reparam_layers
from fallow.pruning import Weights, prune
from fallow.pruning.matrices import in_blocks, matrices
from fallow.pruning.threshold import kth_smallest
from tests.conformance.families import tiny, tokens
from tests.pruning.tuned import by_hand, tuned


@given(st.lists(st.lists(st.sampled_from([0.0, 1e-30, 0.5, 0.5000001, 2.0, 3e30]), max_size=7), min_size=1), st.data())
def test_the_kth_smallest_is_exact(pieces: list[list[float]], data: st.DataObject) -> None:
    flat = sorted(torch.tensor([x for piece in pieces for x in piece]).tolist())
    if not flat:
        return
    k = data.draw(st.integers(1, len(flat)))
    found, below = kth_smallest(lambda: (torch.tensor(piece) for piece in pieces), k)
    assert found == flat[k - 1] and below == flat.index(flat[k - 1])


def dense(model: torch.nn.Module, name: str) -> torch.Tensor:
    module = model.get_submodule(name)
    return (module.base if hasattr(module, "base") else dense_weight(module)).detach()


@pytest.mark.parametrize("scope", ["group", "matrix"])
@pytest.mark.parametrize(("score", "update_ratio"), [("update", 0.3), ("sum", 0.5), ("weight", 0.3)])
def test_the_smallest_of_each_group_go_in_a_fused_layer(scope: str, score: str, update_ratio: float) -> None:
    """GPT-2: Q and V by the score, K and the rest by |W|; masks worked out here from the parts of the sum."""
    model = tuned("gpt2")
    before = {m.name: dense(model, m.name).clone() for m in matrices(model) if in_blocks(m.name)}
    with_update, others = {}, {}
    for name, weight in before.items():
        if not name.endswith("c_attn"):
            others[name] = weight.abs()
            continue
        change = by_hand(model, name)
        worth = {"update": change, "sum": weight + change, "weight": weight}[score].abs()
        with_update |= {f"{name} q": worth[:32], f"{name} v": worth[64:]}
        others[f"{name} k"] = weight[32:64].abs()
    report = prune(model, Weights(ratio=0.4, update_ratio=update_ratio, score=score, scope=scope))
    for group, ratio in ((with_update, update_ratio), (others, 0.4)):
        pools = [group] if scope == "group" else [{key: worth} for key, worth in group.items()]
        for pool in pools:
            num = round(ratio * sum(worth.numel() for worth in pool.values()))
            limit = torch.cat([worth.reshape(-1) for worth in pool.values()]).sort().values[num - 1]
            for key, worth in pool.items():
                name, _, role = key.partition(" ")
                start = {"": 0, "q": 0, "k": 32, "v": 64}[role]
                after = dense(model, name)[start : start + len(worth)]
                stays = worth > limit
                assert torch.equal(after, torch.where(stays, before[name][start : start + len(worth)], 0.0)), key
                assert report.by_matrix[key] == pytest.approx(1 - float(stays.double().mean()))
    size = sum(weight.numel() for weight in before.values())
    q_and_v = sum(worth.numel() for worth in with_update.values())
    gone = update_ratio * q_and_v + 0.4 * (size - q_and_v)
    assert report.sparsity == pytest.approx(gone / size, abs=2e-4)


def test_updates_are_not_touched_and_zeros_stay_through_training() -> None:
    model = tuned("bert").float().train()
    kept = {n: p.detach().clone() for n, p in model.named_parameters() if n.endswith(("low_rank_a", "values"))}
    report = prune(model, Weights(ratio=0.5))
    zeros = {m.label: m.weight() == 0 for m in matrices(model) if in_blocks(m.name)}
    assert sum(int(zero.sum()) for zero in zeros.values()) == round(
        report.sparsity * sum(map(torch.numel, zeros.values()))
    )
    assert all(torch.equal(model.get_parameter(name), value) for name, value in kept.items())
    update = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        logits = model(input_ids=tokens()).logits
        functional.cross_entropy(logits.flatten(0, 1), tokens().flatten()).backward()
        update.step()
        update.zero_grad()
    for matrix in matrices(model):
        if matrix.label in zeros:
            assert torch.equal(matrix.weight() == 0, zeros[matrix.label])
    assert not torch.equal(kept["bert.encoder.layer.0.attention.self.query.values"],
                           model.get_parameter("bert.encoder.layer.0.attention.self.query.values"))  # fmt: skip


@pytest.mark.parametrize("family", ["gpt2", "llama", "roberta"])
def test_keys_are_treated_as_asked(family: str) -> None:
    for keys, share in (("pruned", 0.5), ("kept", 0.0)):
        report = prune(tuned(family), Weights(ratio=0.5, keys=keys, scope="matrix"))
        of_keys = [s for label, s in report.by_matrix.items() if label.endswith(("c_attn k", "k_proj", "self.key"))]
        assert of_keys == pytest.approx([share] * 2)
        assert all(s == pytest.approx(0.5) for label, s in report.by_matrix.items() if s)


def test_keys_that_stand_between_queries_and_values_cannot_be_kept() -> None:
    with pytest.raises(UserError, match=r"keys is kept, but no matrix of GPTNeoXForCausalLM holds keys alone"):
        prune(tuned("gpt_neox"), Weights(ratio=0.5, keys="kept"))
    report = prune(tuned("gpt_neox"), Weights(ratio=0.5, scope="matrix"))
    assert [s for label, s in report.by_matrix.items() if "query_key_value" in label] == pytest.approx([0.5] * 2)


def test_groups_together_give_single_matrices_different_sparsities() -> None:
    model = tuned("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(0.01)
    report = prune(model, Weights(ratio=0.2))
    assert report.by_matrix["model.layers.0.mlp.up_proj"] == 1.0
    assert report.by_matrix["model.layers.1.mlp.up_proj"] < 0.2


def test_random_pruning_follows_the_seed_and_reaches_the_share() -> None:
    first, second, third = (tuned("gpt2", "lora") for _ in range(3))
    reports = [prune(m, Weights(ratio=0.3, score="random"), seed=s) for m, s in ((first, 1), (second, 1), (third, 2))]
    assert reports[0] == reports[1] and reports[0].sparsity == pytest.approx(0.3, abs=1e-3)
    masks = [torch.cat([(m.weight() == 0).reshape(-1) for m in matrices(model)]) for model in (first, second, third)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_further_layers_can_join() -> None:
    model = tuned("bert")
    prune(model, Weights(ratio=0.5, also=("transform.dense",)))
    assert int((model.cls.predictions.transform.dense.weight == 0).sum()) > 0
    with pytest.raises(UserError, match='also holds "pooler.dense", which matches no layer'):
        prune(tuned("bert"), Weights(ratio=0.5, also=("pooler.dense",)))


def test_counts_are_those_of_the_tensors() -> None:
    model = tuned("gpt2")
    report = prune(model, Weights(ratio=0.25))
    assert report.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    stored = sum(p.numel() if p.ndim < 2 or "low_rank" in n else int(p.count_nonzero())
                 for n, p in model.named_parameters())  # fmt: skip
    assert report.nonzero == stored
    layers = sum(m.size for m in matrices(model) if in_blocks(m.name))
    extra = sum(p.numel() for la in reparam_layers(model).values() for p in (la.low_rank_a, la.low_rank_b, la.values))
    assert report.linear_flops_left == pytest.approx(0.75 + extra / layers, abs=1e-3)
    assert set(report.to_dict()["conventions"]) == {"sparsity", "nonzero", "trainable", "linear_flops_left"}


def test_a_stock_model_is_pruned_by_its_weights_only() -> None:
    model = tiny("opt")
    with pytest.raises(UserError, match=r"prune.score is update, but the model has no update to go by"):
        prune(model, Weights(ratio=0.5))
    assert prune(model, Weights(ratio=0.5, score="weight")).sparsity == pytest.approx(0.5, abs=1e-3)


def test_weights_without_a_frozen_base_are_refused() -> None:
    model = tiny("gpt2")
    fallow.convert(model, "sparse", sparsity=0.5)
    with pytest.raises(UserError, match="c_attn cannot be pruned: its weight has no frozen base"):
        prune(model, Weights(ratio=0.5, score="weight"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 1.0}, "ratio is 1, but it must be at least 0 and below 1"),
        ({"ratio": 20.0}, "Did you mean 0.2"),
        ({"ratio": -0.1}, "ratio is -0.1"),
        ({"ratio": 0.5, "update_ratio": 1.5}, "update_ratio is 1.5"),
        ({"ratio": 0.0}, "ratio is 0, which prunes nothing"),
        ({"ratio": 0.5, "score": "updates"}, "Did you mean update"),
    ],
)
def test_mistakes_are_named(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Weights(**settings)
