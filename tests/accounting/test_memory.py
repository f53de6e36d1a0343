import copy
from collections.abc import Callable

import pytest
import torch
import transformers
from torch import nn

from fallow.accounting.memory import converted_names, measure_memory
from fallow.conversion import convert
from fallow.linear.kernels.library import library


def step(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(0, 50, (2, 8))
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    optimizer.step()
    return optimizer


def test_a_dense_model_after_a_step(make: Callable[..., nn.Module]) -> None:
    model = make("gpt2", "cpu")
    num = sum(p.numel() for p in model.parameters())
    empty = measure_memory(model)
    assert (empty.rest.weights, empty.rest.gradients, empty.rest.optimizer) == (4 * num, 0, 0)
    memory = measure_memory(model, step(model))
    assert memory.rest.gradients == 4 * num
    assert memory.rest.optimizer == 8 * num + 4 * len(list(model.parameters()))
    assert memory.layers.total == 0
    assert memory.total == memory.to_dict()["total"] == memory.rest.total


def test_types_count_with_their_width(make: Callable[..., nn.Module]) -> None:
    model = make("gpt2")
    full = measure_memory(model).total
    assert measure_memory(model.bfloat16()).total * 2 == full


def test_sparse_layers_at_75_percent_take_less_than_30_percent_of_dense() -> None:
    """Weights, gradients, Adam states and indices of the same layers, real tensors after a real step; then with what
    the compiled kernels derive from the supports."""
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=128, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2
    )
    dense = transformers.GPT2LMHeadModel(config)
    sparse = copy.deepcopy(dense)
    convert(sparse, "sparse", sparsity=0.75, path="materialise")
    names = converted_names(sparse)
    assert len(names) == 8
    after = measure_memory(sparse, step(sparse))
    before = measure_memory(dense, step(dense), names=names)
    assert after.layers.indices == sum(layer.support.num_bytes for layer in map(sparse.get_submodule, names))
    assert after.layers.total / before.layers.total <= 0.30
    assert after.rest.total == before.rest.total
    if library() is not None:
        for name in names:
            sparse.get_submodule(name).use("sparse")
        assert measure_memory(sparse).layers.indices > after.layers.indices
        assert measure_memory(sparse, step(sparse)).layers.total / before.layers.total <= 0.42


@pytest.mark.parametrize("family", ["llama", "llama-tied"])
def test_shared_memory_counts_once(make: Callable[..., nn.Module], family: str) -> None:
    model = make(family)
    assert measure_memory(model).total == 4 * sum(p.numel() for p in model.parameters())
