"""Weights, optimizer states and indices: what `fallow estimate` says, beside the bytes of tensors after a real step.

    python benchmarks/optimizer_memory.py
    python benchmarks/optimizer_memory.py --recipe sltrain-llama-130m --optimizers adamw8bit
    python benchmarks/optimizer_memory.py --recipe sltrain-llama-7b --estimate --markdown

Every method of the recipe's stages, with every optimizer that it goes with, in bfloat16 with stochastic rounding as in
the paper's accounting. `--estimate` builds nothing, for models that this machine cannot hold. `--markdown` prints the
table of docs/optimizers.md.
"""

import argparse
import dataclasses
from typing import Any

import torch
from record import write_record

from fallow.accounting.memory import measure_memory
from fallow.accounting.peak import step_memory
from fallow.accounting.planned import plan_model
from fallow.accounting.sharding import Sharding
from fallow.conversion import convert
from fallow.folder import build
from fallow.run import shipped
from fallow.run.manner import manner_of
from fallow.run.recipe import load
from fallow.run.stage import Stage
from fallow.train import AdamW8bit, GaLore, GaLore8bit, Mesh, Optimizer
from fallow.train.optimizers.build import build_optimizer
from fallow.train.tensors import store_weights
from fallow.train.updates import updates_of


def main() -> None:
    """Compare every combination and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="sltrain-llama-60m")
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "adamw8bit", "galore", "galore8bit"])
    parser.add_argument("--estimate", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    recipe, results, seen = load(args.recipe), [], set()
    assert args.recipe in shipped.names()
    rank = next(s.optimizer.projection.rank for s in recipe.stages if s.optimizer.projection is not None)
    for stage in recipe.stages:
        if (stage.method.name, str(stage.method)) in seen:
            continue
        seen.add((stage.method.name, str(stage.method)))
        for settings in optimizers(rank):
            if settings.name not in args.optimizers or (settings.projection and stage.method.name != "dense"):
                continue
            config = {**recipe.stages[0].model.config, "dtype": "bfloat16"}
            found = compare(dataclasses.replace(stage, optimizer=settings), config, real=not args.estimate)
            results.append(found)
            if not args.markdown:
                print(*found.values(), flush=True)
    if args.markdown:
        print(table(results))
    if not args.estimate:
        print(write_record(f"optimizer-memory-{args.recipe}", results, notes="bytes; one process"))


def optimizers(rank: int) -> list[Optimizer]:
    """Each with updates per layer, in bfloat16."""
    common: dict[str, Any] = {"lr": 1e-3, "weights": "bf16", "update": "per_layer", "clip": 0.0}
    return [
        Optimizer(**common),
        AdamW8bit(**common),
        GaLore(rank=rank, **common),
        GaLore8bit(rank=rank, **common),
    ]


def compare(stage: Stage, config: dict[str, Any], *, real: bool) -> dict[str, Any]:
    """One method with one optimizer."""
    planned = plan_model(config, stage.method, targets=stage.targets)
    sharding = Sharding(planned, 1, "bf16", manner=manner_of(stage, planned))
    shares, step = sharding.shares(), step_memory(sharding, micro=1, context=256, accumulation=1)
    found: dict[str, Any] = {
        "method": stage.method.name,
        "optimizer": stage.optimizer.name,
        "weights": shares.weights,
        "states": shares.optimizer,
        "indices": shares.indices,
        "total": shares.weights + shares.optimizer + shares.indices,
        "peak_of_one_sequence": step.peak,
    }
    if real:
        memory = measured(stage, config)
        whole = sum(getattr(memory.layers, p) + getattr(memory.rest, p) for p in ("weights", "optimizer", "indices"))
        found |= {"measured": whole, "error": round(found["total"] / whole - 1, 5)}
        found["index_bytes_an_entry"] = index_bytes(stage, config, memory.layers.indices)
    return found


def measured(stage: Stage, config: dict[str, Any]) -> Any:
    """The tensors after one update of a few tokens."""
    torch.manual_seed(0)
    model = build(config).train()
    convert(model, stage.method, targets=stage.targets)
    store_weights(model, stage.optimizer.weights)
    optimizer = build_optimizer(model, stage.method, stage.optimizer)
    updates = updates_of(model, optimizer, stage.optimizer, Mesh())
    updates.begin(1e-3)
    tokens = torch.randint(1000, (1, 8))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=tokens).logits.float().square().mean()
    updates.see(loss, last=True)
    loss.backward()
    updates.finish(float(updates.norm()))
    return measure_memory(model, optimizer)


def index_bytes(stage: Stage, config: dict[str, Any], indices: int) -> float | None:
    """Bytes of pointers and columns for each entry."""
    layers = plan_model(config, stage.method).converted
    entries = sum(layer.values.numel() for layer in layers if layer.values is not None)
    return round(indices / entries, 3) if indices else None


def table(results: list[dict[str, Any]]) -> str:
    """Decimal gigabytes."""
    columns = ("weights", "states", "indices", "total", "peak_of_one_sequence")
    lines = ["| method | optimizer | weights | states | indices | together | peak, one sequence |", "|" + " --- |" * 7]
    for found in results:
        sizes = " | ".join(f"{found[column] / 1e9:.2f}" for column in columns)
        lines.append(f"| {found['method']} | {found['optimizer']} | {sizes} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
