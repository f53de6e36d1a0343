"""A cut model gives what the gated one gives. The gates work on activations, the cut on weights."""

import pytest
import torch

from fallow.errors import UserError
from fallow.shearing.groups import kept_of
from fallow.shearing.kept import Kept
from fallow.shearing.surgery import cut
from fallow.shearing.valves import Valves
from tests.conformance.families import tokens
from tests.shearing.tiny import GROUPED, MODELS, distance, facts, model_of, smaller, soft_gates


def cut_and_compare(model, target, sharing="auto") -> torch.nn.Module:
    family, source = facts(model)
    groups, gates = soft_gates(source, target, sharing)
    valves = Valves(model, family, source, groups)
    with torch.no_grad():
        plain = model(tokens()).logits
        valves.set(gates)
        gated = model(tokens()).logits
        valves.remove(model)
        assert torch.equal(model(tokens()).logits, plain)
        small = cut(model, kept_of(source, groups, gates))
        assert distance(small(tokens()).logits, gated) < 1e-6
    assert distance(gated, plain) > 0.1
    assert type(small) is type(model)
    assert facts(small)[1] == target
    return small


@pytest.mark.parametrize("name", MODELS)
def test_all_axes_at_once(name, tmp_path) -> None:
    model = model_of(name)
    small = cut_and_compare(model, smaller(facts(model)[1]))
    small.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert torch.equal(loaded(tokens()).logits, small(tokens()).logits)


@pytest.mark.parametrize("sharing", ["within", "whole", "shared"])
@pytest.mark.parametrize("name", ["llama tied", "qwen2", "qwen3"])
def test_grouped_queries(name, sharing) -> None:
    assert name in GROUPED
    model = model_of(name)
    cut_and_compare(model, smaller(facts(model)[1], sharing), sharing)


@pytest.mark.parametrize("axis", ["layers", "hidden", "heads", "inner"])
def test_one_axis_alone(axis) -> None:
    model = model_of("mistral")
    source = facts(model)[1]
    small = cut_and_compare(model, source.with_sizes(**{axis: getattr(source, axis) // 2}))
    if axis == "heads":
        assert small.config.head_dim == 8
        assert small.config.num_attention_heads * 8 < small.config.hidden_size


def test_units_outside_the_stream_equal_zeroed_weights() -> None:
    """An oracle without gates: what no one reads may as well be zero."""
    model = model_of("llama")
    _, source = facts(model)
    kept = Kept.of(source, heads=[[0, 2], [1, 3]], inner=[list(range(0, 63, 3)), list(range(1, 64, 3))])
    small = cut(model, kept)
    with torch.no_grad():
        for number, layer in enumerate(model.model.layers):
            heads = torch.zeros(4, 8)
            heads[kept.heads_lh[number]] = 1.0
            layer.self_attn.o_proj.weight *= heads.flatten()
            inner = torch.zeros(64)
            inner[kept.inner_lm[number]] = 1.0
            layer.mlp.down_proj.weight *= inner
        assert distance(small(tokens()).logits, model(tokens()).logits) < 1e-6


def test_a_mask_does_what_an_index_list_does() -> None:
    model = model_of("llama")
    _, source = facts(model)
    hidden = torch.zeros(32)
    hidden[::2] = 1.0
    by_mask = cut(model, Kept.from_masks(source, hidden=hidden))
    by_index = cut(model, Kept.of(source, hidden=range(0, 32, 2)))
    assert all(torch.equal(a, b) for a, b in zip(by_mask.parameters(), by_index.parameters(), strict=True))
    assert torch.equal(by_mask.lm_head.weight, model.lm_head.weight[:, ::2])


def test_nothing_to_cut_changes_no_bit() -> None:
    model = model_of("gpt2")
    same = cut(model, Kept.of(facts(model)[1]))
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), model.parameters(), strict=True))


def test_layer_types_keep_step() -> None:
    model = model_of("qwen3")
    model.config.layer_types = ["full_attention", "sliding_attention"]
    small = cut(model, Kept.of(facts(model)[1], layers=[1]))
    assert small.config.layer_types == ["sliding_attention"]


def test_frozen_parameters_and_dtype_stay() -> None:
    model = model_of("llama").to(torch.bfloat16)
    model.model.embed_tokens.weight.requires_grad_(False)
    small = cut(model, Kept.of(facts(model)[1], layers=[1]))
    assert not small.model.embed_tokens.weight.requires_grad
    assert small.lm_head.weight.requires_grad
    assert {p.dtype for p in small.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": [0, 2]}, "layers holds index 2, but the model has 2: 0 to 1"),
        ({"layers": [1, 0]}, "layers must be ascending"),
        ({"hidden": []}, "hidden keeps nothing"),
        ({"heads": [[0, 1, 2], [0, 1, 2]]}, "3 heads cannot share 2 heads of keys and values equally"),
        ({"heads": [[0, 1], [0, 2]]}, "a different number of heads of keys and values"),
        ({"heads": [[0, 1], [2, 3]], "kv_heads": [[0], [0]]}, "heads and kv_heads do not belong together"),
        ({"inner": [[0, 1]]}, "inner_lm has 1 rows, but 2 layers are kept"),
    ],
)
def test_units_that_make_no_model(changes, message) -> None:
    _, source = facts(model_of("llama"))
    with pytest.raises(UserError, match=message):
        Kept.of(source, **changes)


def test_uneven_masks_are_refused() -> None:
    _, source = facts(model_of("llama"))
    inner = torch.ones(2, 64)
    inner[0, :5] = 0.0
    with pytest.raises(UserError, match="keeps 59 in one layer and 64 in another"):
        Kept.from_masks(source, inner=inner)
    with pytest.raises(UserError, match="hidden_gates_d holds values that are not finite"):
        Kept.from_masks(source, hidden=torch.full((32,), float("nan")))


def test_another_model_is_refused() -> None:
    model = model_of("llama")
    other = Kept.of(facts(model_of("gpt2"))[1])
    with pytest.raises(UserError, match="chosen for another model"):
        cut(model, other)


def test_a_model_with_something_beside_is_refused() -> None:
    model = model_of("llama")
    model.model.layers[0].adapter = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"model.layers.0.adapter.weight is not known to be part of a llama"):
        cut(model, Kept.of(facts(model)[1]))


def test_kept_units_survive_their_file(tmp_path) -> None:
    model = model_of("llama")
    _, source = facts(model)
    groups, gates = soft_gates(source, smaller(source))
    kept = kept_of(source, groups, gates)
    kept.save(tmp_path / "kept.safetensors")
    for number in range(8):  # the same bytes in every writing
        kept.save(tmp_path / f"{number}.safetensors")
        assert (tmp_path / f"{number}.safetensors").read_bytes() == (tmp_path / "kept.safetensors").read_bytes()
    again = Kept.load(tmp_path / "kept.safetensors")
    first, second = cut(model, kept), cut(model, again)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    (tmp_path / "kept.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="holds no kept units, or is damaged"):
        Kept.load(tmp_path / "kept.safetensors")
