"""Models on the meta device against real ones: counts, published sizes, bytes of real tensors after a real step."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import fallow
from fallow.accounting.estimate import cost_of, disk_of
from fallow.accounting.flops import count_flops
from fallow.accounting.manner import Manner, States
from fallow.accounting.memory import measure_memory
from fallow.accounting.parameters import count_parameters
from fallow.accounting.planned import PlannedModel, meta_model, plan_model
from fallow.accounting.sharding import Sharding
from fallow.errors import UserError
from fallow.folder import build
from fallow.methods import method_of
from fallow.methods.base import reparam_layers
from fallow.train.optimizers import build_optimizer
from fallow.train.optimizers.settings import Optimizer
from tests.conformance.families import CONFIGS, tokens
from tests.conformance.table import ROWS
from tests.house.source import ROOT

FAMILIES = ("gpt2", "llama", "opt", "gpt_neox")
EVERY = [(family, row) for family in CONFIGS for row in ROWS]
PATHS = ("", "materialise", "factored")


def planned(family: str, row: str, path: str = "") -> PlannedModel:
    return plan_model(CONFIGS[family], method_of(ROWS[row].method, **ROWS[row].settings), seed=3, path=path)


def model(family: str, row: str, device: str = "meta", path: str = "") -> torch.nn.Module:
    with torch.device(device):
        made = build(CONFIGS[family])
        fallow.convert(made, ROWS[row].method, seed=3, path=path, **ROWS[row].settings)
    return made


@pytest.mark.parametrize(("family", "row"), EVERY)
def test_parameters_and_operations_are_those_of_a_real_model(family: str, row: str) -> None:
    ours, built = planned(family, row), model(family, row, "cpu")
    counts, parameters = fallow.count(built), ours.parameters
    assert [(t.name, t.shape, t.trainable) for t in ours.tensors] == [
        (name, tuple(p.shape), p.requires_grad) for name, p in built.named_parameters()
    ]
    assert (parameters.positions, parameters.stored, parameters.trainable) == (
        counts.positions, counts.stored, counts.trainable
    )  # fmt: skip
    assert sum(t.numel for t in ours.tensors) == parameters.stored
    on_cpu = plan_model(CONFIGS[family], method_of(ROWS[row].method, **ROWS[row].settings), seed=3, device="cpu")
    # A frozen weight may hold zeros (a padding row), which nothing multiplies by.
    assert on_cpu.flops(24).training == pytest.approx(count_flops(built, 24).training, rel=1e-3)
    assert {layer.site.name: layer.path for layer in on_cpu.converted} == {
        name: layer.path for name, layer in reparam_layers(built).items()
    }


def measured(made: torch.nn.Module, row: str) -> tuple[int, ...]:
    """Bytes after forward, backward and an update: weights, gradients, optimizer states, indices.

    On a path without structures, whose bytes are known before a support is drawn only to a percent or so.
    """
    optimizer = build_optimizer(made, method_of(ROWS[row].method, **ROWS[row].settings), Optimizer(lr=1e-3))
    made.train()
    made(input_ids=tokens(), use_cache=False).logits.sum().backward()
    optimizer.step()
    memory = measure_memory(made, optimizer)
    return tuple(
        getattr(memory.layers, part) + getattr(memory.rest, part)
        for part in ("weights", "gradients", "optimizer", "indices")
    )


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_after_a_real_step(family: str, row: str) -> None:
    shares = Sharding(planned(family, row, "materialise"), 1).shares()
    expected = measured(model(family, row, "cpu", "materialise"), row)
    assert (shares.weights, shares.gradients, shares.optimizer, shares.indices) == expected


def test_a_gpu_can_be_planned_for_where_there_is_none() -> None:
    few = method_of("sparse", sparsity=0.75)
    dense = plan_model(CONFIGS["llama"], few, path="fused").flops(24)
    assert dense == plan_model(CONFIGS["llama"], few, path="materialise").flops(24)
    with pytest.raises(UserError, match="path block cannot compute .*: it needs a support of blocks"):
        plan_model(CONFIGS["llama"], few, path="block")


def test_a_type_of_its_own() -> None:
    config = {**CONFIGS["llama"], "dtype": "bfloat16"}
    made = build(config)
    fallow.convert(made, "sparse", sparsity=0.75, seed=3, path="materialise")
    shares = Sharding(plan_model(config, method_of("sparse", sparsity=0.75)), 1).shares()
    assert (shares.weights, shares.gradients, shares.optimizer, shares.indices) == measured(made, "sparse")


def test_shards_gathers_and_sums_of_fsdp() -> None:
    """Under FSDP2 with collectives that only pretend: what one of three processes holds, receives and sends."""
    processes = 3  # divides hardly any of the shapes
    script = ROOT / "tests" / "accounting" / "fsdp.py"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(processes)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    added_up = {reduce: seen.pop(f"manner/{reduce}") for reduce in ("micro", "update")}
    gradients_that_are_added_up_once(added_up, processes)
    assert len(seen) == len(FAMILIES) * len(ROWS)
    for name, found in seen.items():
        family, row = name.split("/")
        sharding = Sharding(planned(family, row, "materialise"), processes, "fp32", "cpu")
        shares, traffic = sharding.shares(), sharding.traffic(accumulation=1)
        assert [shares.weights, shares.gradients, shares.optimizer, shares.indices] == found["held"], name
        assert [traffic.all_gather, traffic.reduce_scatter] == found["moved"], name


def gradients_that_are_added_up_once(seen: dict[str, dict[str, Any]], processes: int) -> None:
    """Half the traffic of two micro-batches, for whole gradients in place of shards between them; states in bytes."""
    states = States(width=4, block=64, small=4096)
    between = {}
    for reduce in ("micro", "update"):
        manner = Manner(states=states, reduce=reduce)
        sharding = Sharding(planned("gpt2", "dense"), processes, "fp32", "cpu", manner)
        shares, traffic, gathered = sharding.shares(), sharding.traffic(2), sharding.gathered(2)
        assert seen[reduce]["held"] == [shares.weights, shares.gradients, shares.optimizer]
        assert seen[reduce]["moved"] == [traffic.all_gather, traffic.reduce_scatter]
        between[reduce] = gathered.accumulated or shares.gradients
    assert seen["update"]["moved"][1] * 2 == seen["micro"]["moved"][1]
    assert seen["update"]["between"] - seen["micro"]["between"] == between["update"] - between["micro"] > 0


def test_what_is_shared_shrinks_with_processes_and_indices_do_not() -> None:
    one, eight = (Sharding(planned("gpt2", "sparse"), n).shares() for n in (1, 8))
    assert eight.weights < one.weights / 7
    assert eight.indices == one.indices > 0


@pytest.mark.parametrize("row", ["dense", "sparse"])
def test_disk(row: str, tmp_path) -> None:
    """A real checkpoint and a real model folder; files have headers that the count leaves out."""
    from fallow.train import Mesh
    from fallow.train.checkpoint import Checkpoints
    from fallow.train.tensors import model_tensors, optimizer_tensors

    made, method = model("gpt2", row, "cpu"), method_of(ROWS[row].method, **ROWS[row].settings)
    optimizer = build_optimizer(made, method, Optimizer(lr=1e-3))
    made(input_ids=tokens(), use_cache=False).logits.sum().backward()
    optimizer.step()
    tensors = model_tensors(made) | optimizer_tensors(made, optimizer)
    disk = disk_of(Sharding(planned("gpt2", row), 1))
    assert disk.checkpoint == sum(t.numel() * t.element_size() for t in tensors.values())
    folder = Checkpoints(tmp_path / "checkpoints", Mesh(), 1).save(1, tensors, {"identity": {}})
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert 0 < size - disk.checkpoint < 3000 * len(tensors) + 30_000
    fallow.merge(made).save_pretrained(tmp_path / "model")
    size = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert 0 < size - disk.model < 10_000


TINY = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 96, "moe_intermediate_size": 64, "num_experts": 4,
    "num_experts_per_tok": 2,
}  # fmt: skip
WIDTHS = st.integers(1, 6).map(lambda n: 16 * n)


@settings(max_examples=40)
@given(
    heads=st.sampled_from([1, 2, 4]), width=WIDTHS, inner=WIDTHS, vocab=st.integers(8, 300), blocks=st.integers(1, 3),
    sparsity=st.floats(0.0, 0.99), distribution=st.sampled_from(["uniform", "erk"]),
    support=st.sampled_from(["uniform", "vector:4", "block:8"]), tied=st.booleans(),
)  # fmt: skip
def test_any_shape_and_density(
    heads: int, width: int, inner: int, vocab: int, blocks: int, sparsity: float, distribution: str, support: str,
    tied: bool,
) -> None:  # fmt: skip
    config = {
        "model_type": "llama", "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": blocks,
        "num_attention_heads": heads, "num_key_value_heads": 1, "vocab_size": vocab, "tie_word_embeddings": tied,
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    chosen = {"sparsity": sparsity, "distribution": distribution, "support": support}
    ours = plan_model(config, method_of("sparse", **chosen))
    with torch.device("meta"):
        made = build(config)
        fallow.convert(made, "sparse", **chosen)
    assert ours.parameters == count_parameters(made)
    assert ours.flops(17) == count_flops(made, 17)
    memory = measure_memory(made)
    shares = Sharding(ours, 1).shares()
    assert shares.weights == memory.layers.weights + memory.rest.weights
    assert shares.indices == memory.layers.indices + memory.rest.indices
    assert ours.parameters.nonzero <= ours.parameters.positions


def test_wide_matrices_have_wide_indices() -> None:
    """Above 65,536 columns an index takes 4 bytes."""
    config = {"model_type": "gpt2", "n_embd": 64, "n_head": 2, "n_layer": 1, "n_inner": 70_000, "vocab_size": 100}
    ours = plan_model(config, method_of("sparse", sparsity=0.5), targets=("mlp.c_proj",))
    assert ours.index_bytes == 4 * 64 * 70_000 // 2 + 4 * 65


def test_targets_are_those_of_convert() -> None:
    targets = ("q_proj", "*.mlp.*")
    with torch.device("meta"):
        made = build(CONFIGS["llama"])
        fallow.convert(made, "sparse", sparsity=0.5, targets=targets)
    ours = plan_model(CONFIGS["llama"], method_of("sparse", sparsity=0.5), targets=targets)
    assert ours.parameters == count_parameters(made)
    assert ours.flops(8) == count_flops(made, 8)
    with pytest.raises(UserError, match='"q_prj" match nothing in LlamaForCausalLM. Did you mean "q_proj"'):
        plan_model(CONFIGS["llama"], method_of("sparse", sparsity=0.5), targets=("q_prj",))


def test_a_support_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="multiple of 5 rows"):
        plan_model(CONFIGS["gpt2"], method_of("sparse", sparsity=0.5, support="vector:5"))


NEOX = {"model_type": "gpt_neox", "vocab_size": 50304}
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "GPT-2": ({"model_type": "gpt2"}, 124_439_808),
    "Llama 2 7B": ({"model_type": "llama"}, 6_738_415_616),
    "Llama 2 13B": (
        {"model_type": "llama", "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
         "num_attention_heads": 40},
        13_015_864_320,
    ),
    "Llama 2 70B": (
        {"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
         "num_attention_heads": 64, "num_key_value_heads": 8},
        68_976_648_192,
    ),
    "Pythia 70M": (
        {**NEOX, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8},
        70_426_624,
    ),
    "Pythia 1.4B": (
        {**NEOX, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 16},
        1_414_647_808,
    ),
    "OPT 125M": ({"model_type": "opt"}, 125_239_296),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    config, expected = PUBLISHED[name]
    assert plan_model(config).parameters.positions == expected


OTHERS = (
    "phi3",
    "gemma2",
    "olmo2",
    "granite",
    "smollm3",
    "starcoder2",
    "stablelm",
    "cohere",
    "mixtral",
    "qwen3_moe",
    "gpt_oss",
)
"""No table describes them: all is found by structure."""


@pytest.mark.parametrize("kind", OTHERS)
def test_any_decoder_is_counted_by_its_structure(kind: str) -> None:
    """Against torch's counter on a real forward pass."""
    values = {"model_type": kind, **TINY, **({"num_local_experts": 4} if kind in ("mixtral", "gpt_oss") else {})}
    ours = plan_model(values, method_of("sparse", sparsity=0.5), device="cpu")
    assert (ours.sizes.num_blocks == 2 and ours.sizes.inner == TINY["intermediate_size"]) or not ours.block_layers
    cost = cost_of(Sharding(ours, 2, "fp32", "cpu"), context=8, micro=1, sequences=2, accumulation=1)
    assert cost.memory.peak > cost.memory.weights > 0 and cost.flops.reduction > 1
    dense: Any = meta_model(values).to_empty(device="cpu")
    dense.set_attn_implementation("eager")  # the only ones that torch counts on a CPU
    if hasattr(dense, "set_experts_implementation"):
        dense.set_experts_implementation("eager")
    for parameter in dense.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        dense(input_ids=torch.arange(8)[None] + 3, use_cache=False)
    flops = count_flops(dense, 8)
    assert counter.get_total_flops() == 8 * (flops.linear + flops.attention + flops.vocab + flops.other)


def test_what_cannot_be_counted_is_said_in_one_line() -> None:
    with pytest.raises(UserError, match="MambaForCausalLM cannot be counted: its config names no num_attention_heads"):
        plan_model({"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 96}).flops(8)
    with pytest.raises(UserError, match='unknown model_type "lama". Did you mean "llama"'):
        plan_model({"model_type": "lama"})
    with pytest.raises(UserError, match="device is cuda, but it is for models on meta alone"):
        fallow.convert(build(CONFIGS["gpt2"]), "sparse", sparsity=0.5, device="cuda")
