"""Which weights a model with another head begins with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertConfig, BertModel, GPT2Config, RobertaConfig

import fallow
from fallow.data.task import TASKS
from fallow.errors import UserError
from fallow.run.heads import LabelHead

SIZES = {"vocab_size": 50, "num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
RTE, MNLI = LabelHead(TASKS["rte"]), LabelHead(TASKS["mnli"])


def same(a: Any, b: Any) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_bare_blocks_get_a_head_by_the_seed(tmp_path: Path) -> None:
    torch.manual_seed(5)
    body = BertModel(BertConfig(**SIZES))
    body.save_pretrained(tmp_path)
    first, again, other = (RTE.load(str(tmp_path), seed) for seed in (1, 1, 2))
    assert type(first).__name__ == "BertForSequenceClassification"
    assert same(first, again) and same(first.bert, body) and same(other.bert, body)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert first.config.id2label == {0: "entailment", 1: "not_entailment"}
    value = LabelHead(TASKS["stsb"]).load(str(tmp_path), 1)
    assert value.classifier.weight.shape == (1, 16) and value.config.problem_type == "regression"


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_language_models_keep_their_blocks(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    if kind == "gpt2":
        model = AutoModelForCausalLM.from_config(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=50))
    else:
        config = {"bert": BertConfig, "roberta": RobertaConfig}[kind](**SIZES)
        model = AutoModelForMaskedLM.from_config(config)
    model.save_pretrained(tmp_path)
    loaded = RTE.load(str(tmp_path), 1)
    given, taken = model.base_model.state_dict(), loaded.base_model.state_dict()
    assert {name for name in taken if name not in given} == {n for n in taken if "pooler" in n}
    assert all(torch.equal(taken[name], tensor) for name, tensor in given.items())
    assert same(loaded, RTE.load(str(tmp_path), 1))  # a pooler that had to be made is the seed's, too


def test_the_head_of_the_same_task_stays_and_another_does_not(tmp_path: Path) -> None:
    torch.manual_seed(5)
    tuned = RTE.build({"model_type": "bert", **SIZES})
    tuned.save_pretrained(tmp_path)
    assert same(RTE.load(str(tmp_path), 1), tuned)
    moved = MNLI.load(str(tmp_path), 1)
    assert moved.classifier.weight.shape == (3, 16) and same(moved.bert, tuned.bert)
    same_number = LabelHead(TASKS["sst2"]).load(str(tmp_path), 1)
    assert not torch.equal(same_number.classifier.weight, tuned.classifier.weight)


def test_an_unmerged_folder_is_merged(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=50))
    fallow.convert(model, "sparse", sparsity=0.5)
    fallow.save(model, tmp_path)
    loaded = RTE.load(str(tmp_path), 1)
    merged = fallow.merge(model)
    assert torch.equal(loaded.transformer.h[1].mlp.c_fc.weight, merged.transformer.h[1].mlp.c_fc.weight)


def test_what_cannot_be_a_classifier(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="num_labels has no effect, since the task rte decides it"):
        RTE.build({"model_type": "bert", "num_labels": 2})
    with pytest.raises(UserError, match="transformers has no classifier of model_type vit"):
        RTE.build({"model_type": "vit"})
    with pytest.raises(UserError, match='Did you mean "roberta"'):
        RTE.build({"model_type": "robberta"})
    with pytest.raises(UserError, match=r"config.json cannot be read"):
        RTE.load(str(tmp_path), 1)
    from safetensors.torch import load_file, save_file

    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"does not hold all weights below the head: .*layer.1.output.dense.weight"):
        RTE.load(str(tmp_path), 1)
