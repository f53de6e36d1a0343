"""Folders are cut as models in memory are, from several files, and damage is told."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from fallow.errors import UserError
from fallow.shearing.groups import kept_of
from fallow.shearing.kept import KEPT_FILE, Kept
from fallow.shearing.streaming import cut_folder
from fallow.shearing.surgery import cut
from tests.conformance.families import tokens
from tests.shearing.tiny import facts, model_of, smaller, soft_gates


def kept_for(model) -> Kept:
    _, source = facts(model)
    groups, gates = soft_gates(source, smaller(source))
    return kept_of(source, groups, gates)


@pytest.mark.parametrize("name", ["gpt2", "llama tied", "gpt_neox", "opt", "gemma"])
def test_a_folder_of_shards_is_cut_like_a_model(name, tmp_path) -> None:
    model = model_of(name)
    model.save_pretrained(tmp_path / "source", max_shard_size="30KB")
    (tmp_path / "source" / "tokenizer.json").write_text("{}")
    assert len(list((tmp_path / "source").glob("*.safetensors"))) > 2
    kept, told = kept_for(model), []
    cut_folder(tmp_path / "source", kept, tmp_path / "small", shard_bytes=9000, progress=lambda *n: told.append(n))
    files = sorted((tmp_path / "small").glob("model*.safetensors"))
    assert len(files) > 1
    assert all(file.stat().st_size < 12_000 for file in files)
    assert told[-1][0] == told[-1][1] == len(told)
    loaded, found = AutoModelForCausalLM.from_pretrained(tmp_path / "small", output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]
    assert torch.equal(loaded(tokens()).logits, cut(model, kept)(tokens()).logits)
    assert (tmp_path / "small" / "tokenizer.json").is_file()
    assert Kept.load(tmp_path / "small" / KEPT_FILE).target == kept.target


def test_older_files(tmp_path) -> None:
    """Saved without the base model's name, and with causal masks, as GPT-2 lies on the Hub."""
    model = model_of("gpt2")
    model.save_pretrained(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    save_file(tensors, file, metadata={"format": "pt"})
    cut_folder(tmp_path / "source", kept_for(model), tmp_path / "small")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    assert torch.equal(loaded(tokens()).logits, cut(model, kept_for(model))(tokens()).logits)


def test_types_stay(tmp_path) -> None:
    model = model_of("llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "source")
    cut_folder(tmp_path / "source", kept_for(model), tmp_path / "small")
    assert {t.dtype for t in load_file(tmp_path / "small" / "model.safetensors").values()} == {torch.bfloat16}


def test_damage_is_told_and_leaves_nothing(tmp_path) -> None:
    model = model_of("llama")
    kept = kept_for(model)
    source, output = tmp_path / "source", tmp_path / "small"
    with pytest.raises(UserError, match="holds no model"):
        cut_folder(tmp_path / "nothing", kept, output)
    model.save_pretrained(source, max_shard_size="30KB")
    first = min(source.glob("model-*.safetensors"))
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is damaged"):
        cut_folder(source, kept, output)
    first.unlink()
    with pytest.raises(UserError, match="is missing, but model.safetensors.index.json names it"):
        cut_folder(source, kept, output)
    first.write_bytes(whole)
    index = json.loads((source / "model.safetensors.index.json").read_text())
    lost = dict(index["weight_map"])
    del lost["model.norm.weight"]
    (source / "model.safetensors.index.json").write_text(json.dumps(index | {"weight_map": lost}))
    with pytest.raises(UserError, match=r"the source has no model.norm.weight"):
        cut_folder(source, kept, output)
    for file in source.glob("model*"):
        file.unlink()
    (source / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="pickled weights only"):
        cut_folder(source, kept, output)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    output.mkdir()
    (output / "mine").write_text("x")
    with pytest.raises(UserError, match="is there already and not empty"):
        cut_folder(source, kept, output)
