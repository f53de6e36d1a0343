"""Estimates of optimizers, updates per layer, recomputing and bfloat16 weights against real tensors of real steps."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import fallow
from fallow.accounting.estimate import disk_of
from fallow.accounting.flops import count_flops
from fallow.accounting.manner import Manner
from fallow.accounting.memory import measure_memory
from fallow.accounting.peak import step_memory
from fallow.accounting.planned import PlannedModel, plan_model
from fallow.accounting.sharding import Sharding
from fallow.errors import UserError
from fallow.folder import build
from fallow.methods import method_of
from fallow.run.manner import manner_of
from fallow.run.recipe import Recipe, load
from fallow.train import AdamW8bit, GaLore, GaLore8bit, Mesh, Optimizer
from fallow.train.objective import NextToken
from fallow.train.optimizers.build import build_optimizer
from fallow.train.recompute import recompute_activations
from fallow.train.tensors import model_tensors, optimizer_tensors, store_weights
from fallow.train.updates import updates_of
from tests.accounting.live_bytes import LiveBytes
from tests.accounting.test_activations import CONFIGS, CONTEXT, Ids, autocast
from tests.run.tiny import write_recipe

OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": Optimizer(lr=1e-3),
    "adamw8bit": AdamW8bit(lr=1e-3, block=64),
    "galore": GaLore(lr=1e-3, rank=12),
    "galore8bit": GaLore8bit(lr=1e-3, rank=24, block=128),
    "bf16": Optimizer(lr=1e-3, weights="bf16"),
    "bf16 8-bit": AdamW8bit(lr=1e-3, weights="bf16"),
    "bf16 galore": GaLore(lr=1e-3, rank=12, weights="bf16", targets=("*proj",)),
}
METHODS: dict[str, dict[str, Any]] = {"dense": {}, "sparse": {"sparsity": 0.6}}
CASES = [(name, method) for name in OPTIMIZERS for method in METHODS if "galore" not in name or method == "dense"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return load(write_recipe(tmp_path_factory.mktemp("tiny")))


def planned(
    recipe: Recipe, settings: Optimizer, config: dict[str, Any], method: str, **manner: Any
) -> tuple[PlannedModel, Manner]:
    """As `fallow estimate` makes them of a stage."""
    stage = dataclasses.replace(
        recipe.stages[0], method=method_of(method, **METHODS[method]), optimizer=settings, **manner
    )
    if settings.weights == "bf16":
        config = {**config, "dtype": "bfloat16"}
    made = plan_model(config, stage.method)
    return made, manner_of(stage, made)


def model_of(config: dict[str, Any], settings: Optimizer, method: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build(config).train()
    fallow.convert(model, method, seed=0, **METHODS[method])
    store_weights(model, settings.weights)
    return model


def step(model: torch.nn.Module, settings: Optimizer, method: str, *, steps: int = 1, accumulation: int = 1) -> Any:
    """Real steps; gives the optimizer and the most bytes alive at one moment of the last one."""
    optimizer = build_optimizer(model, method_of(method, **METHODS[method]), settings)
    updates = updates_of(model, optimizer, settings, Mesh())
    batch: Any = Ids(8)
    for _ in range(steps):
        live = LiveBytes()
        with live:
            updates.begin(1e-3)
            for micro in range(accumulation):
                with autocast("bf16" if settings.weights == "bf16" else "fp32"):
                    loss = NextToken()(model, batch)
                updates.see(loss, last=micro == accumulation - 1)
                loss.backward()
                del loss
            updates.finish(float(updates.norm()))
        for parameter in model.parameters():
            parameter.grad = None
    updates.close()
    return optimizer, live.peak


@pytest.mark.parametrize(("name", "method"), CASES)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_weights_states_and_indices_are_exact(tiny: Recipe, family: str, name: str, method: str) -> None:
    settings = OPTIMIZERS[name]
    ours, manner = planned(tiny, settings, CONFIGS[family], method)
    shares = Sharding(ours, 1, manner=manner).shares()
    model = model_of(CONFIGS[family], settings, method)
    optimizer, _ = step(model, settings, method)
    memory = measure_memory(model, optimizer)
    found = [getattr(memory.layers, part) + getattr(memory.rest, part) for part in ("weights", "optimizer", "indices")]
    assert [shares.weights, shares.optimizer, shares.indices] == found
    tensors = model_tensors(model) | optimizer_tensors(model, optimizer)
    saved = sum(t.numel() * t.element_size() for t in tensors.values())
    assert disk_of(Sharding(ours, 1, manner=manner)).checkpoint == saved


@pytest.mark.parametrize("vocab", [96, 2048])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(
    ("update", "activations"), [("together", "recompute"), ("per_layer", "keep"), ("per_layer", "recompute")]
)
def test_peak_of_a_step(tiny: Recipe, update: Any, activations: Any, accumulation: int, vocab: int) -> None:
    """Never more than 3% too low, and at most 20% too high."""
    for family, method in (("gpt2", "dense"), ("llama", "sparse")):
        settings = Optimizer(lr=1e-3, clip=0.0, update=update)
        config = {**CONFIGS[family], "vocab_size": vocab}
        ours, manner = planned(tiny, settings, config, method, activations=activations)
        memory = step_memory(
            Sharding(ours, 1, "fp32", "cpu", manner), micro=8, context=CONTEXT, accumulation=accumulation
        )
        model = model_of(config, settings, method)
        if activations == "recompute":
            recompute_activations(model)
        _, real = step(model, settings, method, steps=2, accumulation=accumulation)
        assert 0.97 <= (memory.peak - memory.weights - memory.optimizer - memory.indices) / real <= 1.2


@pytest.mark.parametrize("name", ["adamw8bit", "galore", "bf16 8-bit"])
def test_peak_with_what_the_update_needs(tiny: Recipe, name: str) -> None:
    """Few tokens and updates per layer, so that the optimizer's temporaries count: never 3% too low, at most twice."""
    settings = dataclasses.replace(OPTIMIZERS[name], update="per_layer", clip=0.0)
    config = {**CONFIGS["llama"], "hidden_size": 192, "intermediate_size": 512}
    ours, manner = planned(tiny, settings, config, "dense")
    precision: Any = "bf16" if settings.weights == "bf16" else "fp32"
    memory = step_memory(Sharding(ours, 1, precision, "cpu", manner), micro=8, context=CONTEXT, accumulation=1)
    _, real = step(model_of(config, settings, "dense"), settings, "dense", steps=1)
    states = memory.optimizer  # made in the first step, which also takes the first subspace
    assert 0.97 <= (memory.peak - memory.weights - memory.indices) / real <= 2
    assert states == Sharding(ours, 1, manner=manner).shares().optimizer


def test_recomputing_is_one_more_forward_pass_of_the_blocks(tiny: Recipe) -> None:
    """Torch's counter sees no attention on a CPU, and stops before the last product of each block."""
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    flops = count_flops(model_of(CONFIGS["llama"], OPTIMIZERS["adamw"], "dense"), CONTEXT)
    for again in (False, True):
        model = model_of(CONFIGS["llama"], OPTIMIZERS["adamw"], "dense")
        if again:
            recompute_activations(model)
        batch: Any = Ids(2)
        with FlopCounterMode(display=False) as counter:
            NextToken()(model, batch).backward()
        counts.append(counter.get_total_flops() // (2 * CONTEXT))
    last = 2 * 3 * 48 * 80  # of three blocks
    assert counts[1] - counts[0] == flops.linear_executed - last
    assert flops.recomputing().recomputed == flops.linear_executed + flops.attention + flops.softmax
    assert flops.recomputing().training_executed - flops.training_executed == flops.recomputing().recomputed


def test_what_galore_cannot_do_is_known_before(tiny: Recipe) -> None:
    def ask(settings: Optimizer, method: str, processes: int = 1) -> None:
        stage = dataclasses.replace(tiny.stages[0], method=method_of(method, **METHODS[method]), optimizer=settings)
        manner_of(stage, plan_model(CONFIGS["llama"], stage.method), processes)

    with pytest.raises(UserError, match="stage pretrain: optimizer.rank is 49, but model.layers.0.*Write at most 24"):
        ask(GaLore(lr=1e-3, rank=49), "dense")
    with pytest.raises(
        UserError, match="found none: LlamaForCausalLM has no repeated blocks .* adamw8bit to save memory"
    ):
        ask(GaLore(lr=1e-3, rank=4), "sparse")
    with pytest.raises(UserError, match="works on one process"):
        ask(GaLore(lr=1e-3, rank=4), "dense", processes=2)


def test_what_an_estimate_says(tiny: Recipe, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    from fallow.cli.main import main

    recipe = write_recipe(tmp_path)
    flags = ["--stages.pretrain.optimizer.name", "adamw8bit", "--stages.pretrain.optimizer.update", "per_layer"]
    flags += ["--stages.pretrain.optimizer.clip", "0", "--stages.pretrain.activations", "recompute"]
    assert main(["estimate", str(recipe), "--only", "pretrain", *flags]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "adamw8bit, updates per layer, which save nothing of gradients that are accumulated, activations rec" in text
    assert "is the second forward pass of the blocks" in text
