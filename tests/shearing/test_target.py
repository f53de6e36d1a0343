"""What a target may be, and what is said when it may not."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fallow.accounting.tables.models import LLAMA2, PYTHIA, SHEARED
from fallow.errors import UserError
from fallow.shearing.counter import Counter
from fallow.shearing.families import family_of
from fallow.shearing.known import KNOWN
from fallow.shearing.settings import Target
from fallow.shearing.target import shape_for
from tests.shearing.tiny import MODELS, facts, model_of, smaller


def config_of(values):
    values = dict(values)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def shape(values, **wanted):
    config = config_of(values)
    return shape_for(Target(**wanted), config, lambda: Counter.of_config(config, AutoModelForCausalLM.from_config))


def test_known_shapes_are_those_of_the_published_tables() -> None:
    published = {**{f"sheared-llama-{name.lower()}": c for name, c in SHEARED.items()}, **PYTHIA}
    for name, values in published.items():
        config = config_of(values)
        assert KNOWN[name] == family_of(config).shape_of(config), name
    assert set(KNOWN) - set(published) == {"llama-3.2-3b"}


def test_the_papers_targets() -> None:
    llama = LLAMA2["LLaMA2-7B"]
    assert shape(llama, like="sheared-llama-1.3b") == shape(llama, layers=24, hidden=2048, heads=16, inner=5504)
    assert shape(PYTHIA["pythia-410m"], like="pythia-160m").head_size == 64


@pytest.mark.parametrize("name", MODELS)
def test_counts_equal_built_models(name) -> None:
    model = model_of(name)
    counter = Counter.of(model, model.config)
    family, source = facts(model)
    assert counter.total(source) == sum(p.numel() for p in model.parameters())
    target = smaller(source)
    small = type(model)(type(model.config).from_dict(family.resized(model.config.to_dict(), target)))
    assert counter.total(target) == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize(
    ("name", "millions"), [("LLaMA2-7B", 1300), ("LLaMA2-7B", 2700), ("LLaMA2-70B", 30000), ("pythia-410m", 160)]
)
def test_a_number_of_parameters_finds_a_shape_near_it(name, millions) -> None:
    values = {**LLAMA2, **PYTHIA}[name]
    found = shape(values, parameters=millions * 1_000_000)
    config = config_of(values)
    counter = Counter.of_config(config, AutoModelForCausalLM.from_config)
    assert counter.total(found) == pytest.approx(millions * 1e6, rel=0.03)
    assert found.hidden % 64 == 0
    assert found.inner % 64 == 0
    assert found.inner / found.hidden == pytest.approx(counter.source.inner / counter.source.hidden, rel=0.05)


def test_sizes_beside_a_number_of_parameters_are_held() -> None:
    assert shape(LLAMA2["LLaMA2-7B"], parameters=2_700_000_000, layers=32).layers == 32


def test_heads_follow_the_hidden_size_where_they_fill_it() -> None:
    assert shape(MODELS["gpt2"], hidden=16).heads == 2


GPT2, LLAMA, OPT, MISTRAL = MODELS["gpt2"], MODELS["llama"], MODELS["opt"], MODELS["mistral"]


@pytest.mark.parametrize(
    ("values", "wanted", "message"),
    [
        (
            LLAMA,
            {"layers": 3},
            "layers is 3, but the source has 2, and shearing only takes away. Write a number from 1",
        ),
        (LLAMA, {"heads": 3}, "heads is 3, but 2 heads of keys and values are kept.*Did you mean 2?"),
        (
            LLAMA,
            {"kv_heads": 1},
            "heads is 4 on 1 heads of keys and values, 4 for each, but the source has 2.*heads: 2",
        ),
        (LLAMA, {"hidden": 30}, "hidden is 30, but transformers wants it to be a multiple of heads = 4.*mean 28"),
        (LLAMA, {"layers": 2}, "there is nothing to cut"),
        (GPT2, {"hidden": 20}, "heads of 8 fill it exactly. Did you mean 16"),
        (GPT2, {"heads": 2}, "heads is 2 and hidden 32, but in a gpt2 the heads, of 8 each, fill.*Write heads: 4"),
        (GPT2, {"heads": 2, "hidden": 32}, "fill the hidden size exactly"),
        (OPT, {"heads": 2}, "in a opt the heads"),
        (LLAMA, {"like": "pythia-16m"}, "neither a known model nor a folder.*Did you mean pythia-1"),
        (LLAMA, {"like": "pythia-70m"}, "layers is 6, but the source has 2"),
        (PYTHIA["pythia-2.8b"], {"like": "pythia-1.4b"}, "the target has heads of 128, the source of 80"),
        (LLAMA, {"parameters": 10**9}, "parameters is 1,000,000,000, but the source has 24,736"),
        (LLAMA, {"parameters": 100}, "the nearest sensible shape has"),
        (
            {**GPT2, "scale_attn_by_inverse_layer_idx": True},
            {"layers": 1},
            "layers of gpt2 cannot be cut: its attention",
        ),
        ({**GPT2, "add_cross_attention": True}, {"layers": 1}, "gpt2 cannot be cut: it attends to an encoder"),
        ({**OPT, "word_embed_proj_dim": 16}, {"inner": 8}, "opt cannot be cut: it projects its embeddings"),
        ({**OPT, "do_layer_norm_before": False}, {"inner": 8}, "opt cannot be cut: its norms come after the sum"),
        ({"model_type": "bloom"}, {"layers": 1}, "bloom cannot be sheared: fallow does not know"),
    ],
)
def test_what_does_not_fit_is_told(values, wanted, message) -> None:
    with pytest.raises(UserError, match=message):
        shape(values, **wanted)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "no target is given"),
        ({"like": "pythia-70m", "layers": 6}, "like and layers are given together"),
        ({"like": "pythia-70m", "parameters": 6}, "like and parameters are given together"),
        ({"hidden": -1}, "hidden is -1, but it must be at least 1"),
    ],
)
def test_targets_that_say_nothing_or_too_much(wanted, message) -> None:
    with pytest.raises(UserError, match=message):
        Target(**wanted)


def test_a_folder_can_be_the_example(tmp_path) -> None:
    small = MISTRAL | {"hidden_size": 16, "num_hidden_layers": 1}
    config_of(small).save_pretrained(tmp_path)
    assert (
        str(shape(MISTRAL, like=str(tmp_path))) == "1 layer, hidden 16, 4 heads of 8 on 2 of keys and values, inner 64"
    )
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not the configuration of a model"):
        shape(MISTRAL, like=str(tmp_path))


def test_the_meta_device_is_enough() -> None:
    config = config_of(LLAMA2["LLaMA2-7B"])
    with torch.device("meta"):
        counter = Counter.of_config(config, AutoModelForCausalLM.from_config)
    assert counter.total(counter.source) == 6_738_415_616
    assert counter.total(KNOWN["sheared-llama-1.3b"]) == 1_345_423_360
