from collections.abc import Callable

import pytest
from torch import nn

import fallow
from fallow.accounting.parameters import count_parameters
from fallow.conversion import convert, merge


def test_groups_add_up_to_the_model(meta_model: nn.Module) -> None:
    counts = count_parameters(meta_model)
    assert counts.positions == counts.nonzero == counts.stored == counts.trainable
    assert counts.positions == sum(p.numel() for p in meta_model.parameters())
    assert counts.density == 1


def test_what_belongs_where(make: Callable[..., nn.Module]) -> None:
    groups = count_parameters(make("gpt2")).groups
    assert groups["embeddings"].positions == 50 * 16 + 32 * 16
    assert groups["attention"].positions == 2 * (16 * 48 + 48 + 16 * 16 + 16)
    assert groups["mlp"].positions == 2 * (16 * 64 + 64 + 64 * 16 + 16)
    assert groups["norms"].positions == 5 * 2 * 16
    assert groups["head"].positions == groups["other"].positions == 0


def test_a_head_counts_once_when_tied(make: Callable[..., nn.Module]) -> None:
    tied, free = count_parameters(make("llama-tied")), count_parameters(make("llama"))
    assert (tied.groups["head"].positions, free.groups["head"].positions) == (0, 50 * 16)
    assert free.positions - tied.positions == 50 * 16


def test_norms_inside_attention_are_norms(make: Callable[..., nn.Module]) -> None:
    assert count_parameters(make("qwen3-wide-heads")).groups["norms"].positions == 5 * 16 + 2 * 2 * 8


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_sparse_models(make: Callable[..., nn.Module], device: str) -> None:
    model = make("gpt2", device)
    before = count_parameters(model)
    convert(model, "sparse", sparsity=0.75)
    after = count_parameters(model)
    weights = 2 * (16 * 48 + 16 * 16 + 2 * 16 * 64)
    assert after.positions == before.positions
    assert after.nonzero == after.stored == after.trainable == before.positions - weights * 3 // 4
    assert after.groups["embeddings"] == before.groups["embeddings"]
    assert after.to_dict()["groups"]["mlp"]["nonzero"] == after.groups["mlp"].nonzero


def test_nonzero_equals_what_the_merged_weights_hold(make: Callable[..., nn.Module]) -> None:
    model = make("llama", "cpu")
    convert(model, "sparse", sparsity=0.5)
    counts = count_parameters(model)
    model = merge(model)
    model.get_input_embeddings().weight.data.fill_(
        1
    )  # the row of the padding token is zero by chance, not by structure
    assert counts.nonzero == sum(int((p != 0).sum()) for p in model.parameters())


def test_frozen_parameters_are_stored_but_not_trainable(make: Callable[..., nn.Module]) -> None:
    model = make("gpt2")
    for parameter in model.get_input_embeddings().parameters():
        parameter.requires_grad_(False)
    counts = count_parameters(model)
    assert counts.stored - counts.trainable == 50 * 16


def test_equals_the_count_on_tensors(make: Callable[..., nn.Module]) -> None:
    model = make("llama", "cpu")
    model.get_input_embeddings().weight.data.fill_(1)
    convert(model, "sparse", sparsity=0.75)
    ours, measured = count_parameters(model), fallow.count(model)
    assert (ours.positions, ours.stored, ours.trainable) == (measured.positions, measured.stored, measured.trainable)
    assert ours.nonzero == measured.nonzero
