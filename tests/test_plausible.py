"""Configurations of models that no model has: refused before anything is made."""

import math
import time
from typing import Any

import pytest
import torch

from fallow.errors import UserError
from fallow.folder import build
from fallow.plausible import check_forward, check_ids, check_sizes
from fallow.skeleton import few_tensors

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n_layer": 10**9}, "n_layer is 1000000000, but it must be at most 1,000."),
    ({"num_hidden_layers": 1e30}, r"num_hidden_layers is 1e\+30, but it must be at most 1,000."),
    ({"num_local_experts": 10**6}, "num_local_experts is 1000000, but it must be at most 10,000."),
    ({"n_head": -1}, "n_head is -1, but it must be at least 0."),
    ({"n_positions": 0}, "n_positions is 0, but it must be at least 1."),
    ({"vocab_size": 0}, "vocab_size is 0, but it must be at least 1."),
    ({"resid_pdrop": math.nan}, "resid_pdrop is nan, but it must be a finite number."),
    ({"attention_dropout": 3.0}, "attention_dropout is 3.0, but it must be at least 0 and at most 1."),
    ({"n_embd": 2**40}, "n_embd is 1099511627776, but no number in a configuration is beyond 2,147,483,647."),
    ({"rope_scaling": {"factor": math.inf}}, "rope_scaling.factor is inf, but it must be a finite number."),
    ({"sizes": [1, math.nan]}, "sizes is nan, but it must be a finite number."),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[next(iter(values)) for values, _ in REFUSED])
def test_a_size_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_sizes(values)


def test_a_model_is_not_made_of_them() -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match="n_layer is 1000000000"):
        build({"model_type": "gpt2", "n_layer": 10**9})
    assert time.monotonic() - begun < 30  # the import of transformers


def test_what_models_have_passes() -> None:
    check_sizes(
        {"time_step_limit": [0.0, math.inf], "pad_token_id": -1, "moe_intermediate_size": 20480, "n_inner": None}
    )
    check_sizes({"rope_theta": 1e7, "num_experts": 0, "shared_expert_intermediate_size": 20480, "use_cache": True})


def test_special_tokens_are_in_the_vocabulary() -> None:
    with pytest.raises(UserError, match="eos_token_id is 99999, but the vocabulary has 512 tokens"):
        check_ids({"eos_token_id": 99_999}, 512)
    with pytest.raises(UserError, match="pad_token_id is 300, but the vocabulary has 300 tokens"):
        check_ids({"pad_token_id": 300, "vocab_size": 300}, 512)
    with pytest.raises(UserError, match="eos_token_id is x, but it must be the number of a token"):
        check_ids({"eos_token_id": [1, "x"]}, 0)
    check_ids({"eos_token_id": [1, 2], "pad_token_id": None}, 512)


def test_making_a_model_ends() -> None:
    with pytest.raises(UserError, match="more than 200,000 tensors"), few_tensors(), torch.device("meta"):
        torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in iter(int, 1))


def test_a_model_that_cannot_be_computed_is_refused() -> None:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 12}
    with torch.device("meta"):
        odd, right = (build({"model_type": "llama", **small, "head_dim": size}) for size in (3, 8))
    with pytest.raises(UserError, match="such a model cannot be computed"):
        check_forward(odd)
    check_forward(right)
    assert len(right.model.layers) == 12


@pytest.mark.parametrize(
    "kind", ["gpt2", "gpt_neox", "opt", "bloom", "mamba", "mixtral", "gpt_oss", "qwen3_moe", "bert"]
)
def test_models_of_many_kinds_can_be_computed(kind: str) -> None:
    with torch.device("meta"):
        model = build({"model_type": kind})
    check_forward(model)
