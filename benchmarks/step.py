"""Whole steps of training, sparse beside dense: GPT-2 Small, forward, backward, clipping and AdamW included.

    python benchmarks/step.py
    python benchmarks/step.py --tokens 512 --supports uniform@0.75 --pairs 5

A speed-up of 2 means: half the time of dense. Each pair times a step of both models right after each other, in the one
order and in the other by turns. One thread is measured by processor time, several by the clock. The ceiling is the same
ratio in operations, with only what exists multiplied: embeddings, attention, head and optimizer are dense in both.
Rows are written as they are found, and a second call on the same day goes on (`--again` does not).
"""

import argparse
import json
import time
from functools import partial
from typing import Any

import torch
from pairs import alternate
from record import RECORDS, processor, today, write_record
from torch import nn

import fallow
from fallow.accounting.flops import count_flops
from fallow.folder import build
from fallow.methods.base import reparam_layers

GOAL = ("uniform", 0.75, 1.4)
"""Support, sparsity, and the least speed-up wanted there; any faster support wants no less."""


def main() -> None:
    """Measure every row that is not in today's record, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocab", type=int, default=50_257)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 512], help="one sequence of so many")
    parser.add_argument("--supports", nargs="+", default=["uniform@0.75", "vector:4@0.75", "block:8@0.75"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="forget today's rows")
    args = parser.parse_args()
    path = RECORDS / f"{today()}-step.json"
    rows: list[dict[str, Any]] = []
    if path.exists() and not args.again and json.loads(path.read_text())["processor"] == processor():
        rows = json.loads(path.read_text())["results"]
    done = {key_of(row) for row in rows}
    for threads in args.threads:
        for tokens in args.tokens:
            for support in args.supports:
                kind, _, sparsity = support.partition("@")
                row = {
                    "blocks": args.blocks, "width": args.width, "vocab": args.vocab, "tokens": tokens,
                    "support": kind, "sparsity": float(sparsity), "threads": threads,
                }  # fmt: skip
                if key_of(row) not in done:
                    torch.set_num_threads(threads)
                    rows.append({**row, **measured(row, args.pairs)})
                    write_record("step", rows)
                    print(line_of(rows[-1]), flush=True)
    print("", *map(line_of, rows), path, sep="\n")


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a row itself."""
    return tuple(row[name] for name in ("blocks", "width", "vocab", "tokens", "support", "sparsity", "threads"))


def line_of(row: dict[str, Any]) -> str:
    """A row in one line."""
    goal = (
        "" if row["goal"] is None else f"goal {row['goal']:.1f} {'met' if row['speed_up'] >= row['goal'] else 'MISSED'}"
    )
    return (
        f"{row['blocks']} x {row['width']}, {row['tokens']} tokens, {row['support']} {row['sparsity']:.0%}, "
        f"{row['threads']} threads: dense {row['dense_ms']:.0f} ms, {row['speed_up']:.2f}x "
        f"[{row['middle_half'][0]:.2f} to {row['middle_half'][1]:.2f}], ceiling {row['ceiling']:.2f}  {goal}"
    )


def measured(row: dict[str, Any], pairs: int) -> dict[str, Any]:
    """Alternating pairs of whole steps."""
    config = {
        "model_type": "gpt2", "n_layer": row["blocks"], "n_embd": row["width"], "n_head": row["width"] // 64,
        "vocab_size": row["vocab"], "n_positions": 1024, "bos_token_id": 0, "eos_token_id": 0,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    }  # fmt: skip
    torch.manual_seed(0)
    plain, ours = build(config), build(config)
    fallow.convert(ours, "sparse", sparsity=row["sparsity"], support=row["support"])
    flops = count_flops(ours, row["tokens"])
    ids = torch.randint(row["vocab"], (1, row["tokens"]))
    steps = {model: torch.optim.AdamW(model.parameters(), lr=1e-4) for model in (plain, ours)}
    clock = time.process_time if row["threads"] == 1 else time.perf_counter

    def step(model: nn.Module) -> float:
        begin = clock()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        steps[model].step()
        steps[model].zero_grad(set_to_none=True)
        return clock() - begin

    for model in (plain, ours):
        model.train()
        step(model)  # states are made
    found = alternate(partial(step, plain), partial(step, ours), lambda timed: timed(), pairs, digits=1)
    _, sparsity, least = GOAL
    return {
        **found,
        "ceiling": round(flops.training_dense / flops.training, 3),
        "paths": sorted({f"{layer.path}: {layer.why}" for layer in reparam_layers(ours).values()}),
        "goal": least if row["sparsity"] == sparsity and row["width"] >= 768 else None,
        "clock": "processor" if row["threads"] == 1 else "wall",
    }


if __name__ == "__main__":
    main()
