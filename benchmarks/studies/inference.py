"""Memory and throughput of inference (the paper's Table 5): dense, SLTrain by two paths, and merged."""

import statistics
import time
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import fallow
from fallow.run.recipe import load
from studies.study import Outcome

NAMES = ("dense", "SLTrain, materialised", "SLTrain, factored", "SLTrain, merged")
SIZES = ("60m", "130m")
PROMPT, DECODED, ROUNDS = 256, 16, 5


def study() -> Outcome:
    """Random weights: neither memory nor speed depends on what they are. One thread, processor time, alternating."""
    results, rows = [], []
    for size in SIZES:
        models = {name: _model(size, name) for name in NAMES}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
        for _ in range(ROUNDS):
            for name, model in models.items():
                times[name].append(_seconds(model))
        for name, model in models.items():
            held = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
            prompt = PROMPT / statistics.median(first for first, _ in times[name])
            decoded = DECODED / statistics.median(second for _, second in times[name])
            results.append({"size": size, "model": name, "bytes": held, "prompt": prompt, "decoded": decoded})
            rows.append([f"{size.upper()}, {name}", f"{held / 1e6:.0f}", f"{prompt:.0f}", f"{decoded:.1f}"])
    heads = ["model", "weights and indices (MB, fp32)", f"prompt of {PROMPT} (tokens/s)", "one at a time (tokens/s)"]
    return Outcome(results, heads, rows, "Processor time of one thread; batch 1; head and embeddings included.")


def _model(size: str, name: str) -> Any:
    recipe = load(f"sltrain-llama-{size}")
    stage = recipe.stage("sltrain")
    values = {key: value for key, value in stage.model.config.items() if key != "model_type"}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{"vocab_size": 32100, **values})).eval()
    if name != "dense":
        fallow.convert(model, stage.method, path="factored" if name.endswith("factored") else "materialise")
        if name == "SLTrain, merged":
            model = fallow.merge(model)
    return model


@torch.no_grad()
def _seconds(model: Any) -> tuple[float, float]:
    """Of the prompt, and of tokens one at a time after it."""
    tokens = torch.randint(1, 1000, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    begun = time.process_time()
    out = model(input_ids=tokens, use_cache=True, logits_to_keep=1)
    between = time.process_time()
    for _ in range(DECODED):
        last = out.logits[:, -1:].argmax(-1)
        out = model(input_ids=last, past_key_values=out.past_key_values, use_cache=True)
    return between - begun, time.process_time() - between
