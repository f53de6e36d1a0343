"""Activations against what autograd really saves, and the peak of a step against the tensors that are really alive."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch

import fallow
from fallow.accounting.activations import count_activations
from fallow.accounting.memory import measure_memory
from fallow.accounting.peak import largest_micro, step_memory
from fallow.accounting.planned import PlannedModel, plan_model
from fallow.accounting.sharding import Sharding
from fallow.folder import build
from fallow.linear import linear_sites
from fallow.linear.kernels.library import ENVIRONMENT, library, missing
from fallow.methods import method_of
from fallow.train.objective import NextToken
from tests.accounting.live_bytes import LiveBytes
from tests.paths import needs_kernels

VOCAB, CONTEXT = 160, 40
SMALL = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": VOCAB,
    "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SMALL, "num_key_value_heads": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2", "n_layer": 3, "n_embd": 48, "n_head": 4, "vocab_size": VOCAB, "n_positions": 64,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    },
    "llama": {"model_type": "llama", **GROUPED},
    "mistral": {"model_type": "mistral", **GROUPED, "head_dim": 16},
    "qwen2": {"model_type": "qwen2", **GROUPED},
    "qwen3": {"model_type": "qwen3", **GROUPED, "head_dim": 8},
    "gemma": {"model_type": "gemma", **GROUPED, "head_dim": 16},
    "gpt_neox": {"model_type": "gpt_neox", **SMALL},
    "opt": {
        "model_type": "opt", **{k: v for k, v in SMALL.items() if k != "intermediate_size"}, "ffn_dim": 80,
        "word_embed_proj_dim": 48, "dropout": 0.0,
    },
    "bert": {"model_type": "bert", **SMALL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "roberta": {"model_type": "roberta", **SMALL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}  # fmt: skip
TYPES = ("fp32", "bf16")


def made(config: dict[str, Any], method: str, path: str, settings: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build(config).train()
    fallow.convert(model, method, path=path, **settings)
    return model


def autocast(precision: str) -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


class Ids:
    """A batch as the objective takes it."""

    def __init__(self, sequences: int) -> None:
        drawn = torch.randint(3, 90, (sequences, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
        self.input_ids, self.labels = drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()


def saved_bytes(model: torch.nn.Module, sequences: int, precision: str) -> int:
    """Bytes of distinct storages that autograd saves, parameters and buffers aside."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.Tensor] = {}  # held, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    batch: Any = Ids(sequences)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast(precision):
        NextToken()(model, batch)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def planned(config: dict[str, Any], method: str, path: str, settings: dict[str, Any]) -> PlannedModel:
    return plan_model(config, method_of(method, **settings), path=path, device="cpu")


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("family", CONFIGS)
def test_within_half_a_percent_of_what_autograd_saves(family: str, precision: Any) -> None:
    for method, path, settings in (
        ("dense", "materialise", {}),
        ("sparse", "materialise", {"sparsity": 0.75}),
        ("sparse", "factored", {"sparsity": 0.75}),
    ):
        ours = count_activations(
            planned(CONFIGS[family], method, path, settings), precision=precision, device="cpu", context=CONTEXT
        )
        real = saved_bytes(made(CONFIGS[family], method, path, settings), 4, precision)
        assert ours.total(4 * CONTEXT) == pytest.approx(real, rel=0.005)


DROPOUT = {
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    "opt": ("dropout", "attention_dropout"),
    "gpt_neox": ("hidden_dropout", "attention_dropout"),
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
}


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("family", DROPOUT)
def test_dropout_masks_and_scores(family: str, precision: Any) -> None:
    """Without dropout of attention as exact as before; with it, on a CPU, the scores are kept: within 15%."""
    *masks, scores = DROPOUT[family]
    for keys, tolerance in ((masks, 0.005), ([*masks, scores], 0.15)):
        config = {**CONFIGS[family], **dict.fromkeys(keys, 0.1)}
        ours = count_activations(
            planned(config, "dense", "materialise", {}), precision=precision, device="cpu", context=CONTEXT
        )
        real = saved_bytes(made(config, "dense", "materialise", {}), 4, precision)
        assert ours.total(4 * CONTEXT) == pytest.approx(real, rel=tolerance)


def test_bytes_grow_with_tokens_alone() -> None:
    ours = count_activations(planned(CONFIGS["llama"], "dense", "materialise", {}), precision="bf16")
    linear = linear_sites(build(CONFIGS["llama"])).values()
    assert ours.weight_copies == sum(2 * site.shape[0] * site.shape[1] for site in linear)
    assert ours.total(2000) - ours.total(1000) == pytest.approx(1000 * ours.per_token, abs=1)


def peak_bytes(model: torch.nn.Module, sequences: int, precision: str, accumulation: int) -> int:
    """The most bytes alive at one moment of forward and backward, weights aside."""
    live, batch = LiveBytes(), Ids(sequences)
    with live:
        for _ in range(accumulation):
            with autocast(precision):
                loss = NextToken()(model, batch)  # type: ignore[arg-type]
            loss.backward()
            del loss
    return live.peak


@pytest.mark.parametrize("vocab", [96, 2048])
@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "opt"])
def test_peak_of_a_step(family: str, precision: Any, vocab: int) -> None:
    """Never more than 3% too low, and at most 15% too high, with and without earlier micro-batches."""
    config = {**CONFIGS[family], "vocab_size": vocab}
    for method, path, settings in (("dense", "materialise", {}), ("sparse", "materialise", {"sparsity": 0.75})):
        for accumulation in (1, 2):
            sharding = Sharding(planned(config, method, path, settings), 1, precision, "cpu")
            memory = step_memory(sharding, micro=8, context=CONTEXT, accumulation=accumulation)
            ours = memory.peak - memory.weights - memory.optimizer - memory.indices
            real = peak_bytes(made(config, method, path, settings), 8, precision, accumulation)
            assert 0.97 <= ours / real <= 1.15, (method, accumulation, memory)


@pytest.mark.parametrize("kernels", ["", "off"])
def test_peak_where_the_path_is_what_counts(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, kernels)
    if not kernels and library() is None:
        pytest.skip(f"the kernels are not built here: {missing()}")
    config = {**CONFIGS["gpt2"], "vocab_size": 96}
    for method, path, settings in (
        ("sparse", "materialise", {"sparsity": 0.5}),
        ("sparse", "factored", {"sparsity": 0.5}),
        ("sltrain", "factored", {"rank": 8, "density": 0.1}),
        *([] if kernels else [("sparse", "sparse", {"sparsity": 0.75, "support": "vector:4"})]),
    ):
        sharding = Sharding(planned(config, method, path, settings), 1, "fp32", "cpu")
        memory = step_memory(sharding, micro=1, context=CONTEXT, accumulation=1)
        ours = memory.peak - memory.weights - memory.optimizer - memory.indices
        real = peak_bytes(made(config, method, path, settings), 1, "fp32", 1)
        assert memory.path > 0
        assert 0.97 <= ours / real <= 1.25, (method, path, memory)


@needs_kernels
def test_bytes_that_the_kernels_keep() -> None:
    """What is told before a support is drawn is what a drawn one has, and the same on every path that uses them."""
    config = {**CONFIGS["llama"], "hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 1}
    for sparsity in (0.5, 0.75, 0.9):
        for support in ("uniform", "vector:4", "block:4"):
            settings = {"sparsity": sparsity, "support": support}
            real = measure_memory(made(config, "sparse", "sparse", settings)).layers.indices
            assert planned(config, "sparse", "sparse", settings).index_bytes == pytest.approx(real, rel=0.04)


def test_the_largest_micro_batch_is_the_largest() -> None:
    sharding = Sharding(planned(CONFIGS["gpt2"], "dense", "materialise", {}), 1, "fp32", "cpu")
    peaks = {
        micro: step_memory(sharding, micro=micro, context=CONTEXT, accumulation=24 // micro).peak
        for micro in (1, 2, 3, 4, 6, 8, 12, 24)
    }
    for limit in (peaks[3], peaks[6], peaks[12] - 1, peaks[24], peaks[1] - 1):
        expected = max((micro for micro, peak in peaks.items() if peak <= limit), default=0)
        assert largest_micro(sharding, limit=limit, context=CONTEXT, sequences=24) == expected
