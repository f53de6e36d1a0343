"""The paths for GPUs against `nn.Linear`: forward and backward of a layer, everything included, on your GPU.

    python benchmarks/gpu.py                             all goals; some minutes
    python benchmarks/gpu.py --tokens 8192 --shapes 4096x4096 --pairs 21
    python benchmarks/gpu.py --weights fp32              only weights in fp32 under autocast, as fallow trains
    TRITON_INTERPRET=1 python benchmarks/gpu.py --rehearse   through it all without a GPU; nothing is recorded

A speed-up of 2 means: half the time of dense. Each pair times dense and the path right after each other by CUDA events,
in the one order and in the other by turns; the record holds the median of the pairs and the range of their middle half.
Before a row is timed, its outputs and gradients are compared with those of plain operations; a row that fails or
differs is recorded with the reason, without a time. A missed goal is recorded as missed.

Goals: `fused` at most 1.02 of dense from 8,192 tokens on (a speed-up of 0.98), `block` with edges of 64 and 128 at 75%
a speed-up of 2, `semi_structured` 1.2. `materialise` stands beside them without a goal: it is what `fused` has to beat.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from typing import Any

import torch
from pairs import Step, alternate
from record import write_record
from torch import nn

from fallow.linear import LowRank, ReparamLinear, Site, Sparse, Terms
from fallow.linear.paths import why_not
from fallow.linear.paths.fits import unfit
from fallow.linear.timing import broken
from fallow.random import Key
from fallow.supports import kind_of

LAYERS = (
    ("materialise", "uniform", 0.75, 0),
    ("fused", "uniform", 0.75, 0),
    ("fused", "uniform", 0.5, 0),
    ("materialise", "uniform", 0.97, 128),
    ("fused", "uniform", 0.97, 128),
    ("block", "block:32", 0.75, 0),
    ("block", "block:64", 0.75, 0),
    ("block", "block:128", 0.75, 0),
    ("semi_structured", "transposable", 0.5, 0),
)
"""Path, support, sparsity, rank of the factors beside it (0 for none)."""

GOALS = {"fused": 1 / 1.02, "block": 2.0, "semi_structured": 1.2}
"""Least speed-up wanted, from 8,192 tokens on; of blocks, with an edge of 64 at least."""

SHAPES = ("2048x2048", "4096x4096", "11008x4096", "4096x11008")
TOKENS = (8192, 16384)
WEIGHTS = ("fp32", "bf16")
PASSES = 20
"""Forward and backward passes of a layer in a pair."""


def main() -> None:
    """Measure every row and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="d_out x d_in")
    parser.add_argument("--tokens", type=int, nargs="+", default=list(TOKENS))
    parser.add_argument("--paths", nargs="+", default=["materialise", *GOALS], choices=["materialise", *GOALS])
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=WEIGHTS, help="fp32 are cast by autocast")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--rehearse", action="store_true", help="tiny layers on the CPU; nothing is recorded")
    args = parser.parse_args()
    if args.rehearse:
        args.shapes, args.tokens, args.weights, args.pairs = ["128x128"], [16], ["bf16"], 1
    elif not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here, so nothing is timed. --rehearse goes through it without one.")
    device = torch.device("cpu" if args.rehearse else "cuda")
    rows = []
    for wanted in wanted_rows(args):
        rows.append({**wanted, **measured(wanted, args.pairs, device)})
        print(line_of(rows[-1]), flush=True)
    goals = [row for row in rows if row["goal"] is not None]
    met = [row for row in goals if is_met(row)]
    print(f"\n{len(met)} goals met, {len(goals) - len(met)} missed or not timed.")
    if not args.rehearse:
        print(write_record("gpu", rows, notes="speed_up is time of dense over time of the row, median of pairs"))


def wanted_rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What to measure: layers inside tokens inside shapes."""
    for shape, tokens, weights in itertools.product(args.shapes, args.tokens, args.weights):
        for path, support, sparsity, rank in LAYERS:
            if path in args.paths:
                has_goal = tokens >= 8192 and support != "block:32"
                yield {
                    "path": path,
                    "shape": shape,
                    "tokens": tokens,
                    "support": support,
                    "sparsity": sparsity,
                    "rank": rank,
                    "weights": weights,
                    "goal": round(GOALS[path], 3) if path in GOALS and has_goal else None,
                }


def measured(row: dict[str, Any], pairs: int, device: torch.device) -> dict[str, Any]:
    """Alternating pairs of dense and the row; or why it was not timed."""
    d_out, d_in = map(int, row["shape"].split("x"))
    sparse = Sparse(kind=kind_of(row["support"]), density=1 - row["sparsity"], key=Key(0, row["shape"]), parts=(d_out,))
    low_rank = LowRank(rank=row["rank"], alpha=1.0, key=Key(0, "a")) if row["rank"] else None
    terms = Terms(low_rank=low_rank, sparse=sparse)
    if reason := why_not(row["path"]) or unfit(row["path"], terms, (d_out, d_in)):
        return {"speed_up": None, "why": reason}
    dtype = torch.bfloat16 if row["weights"] == "bf16" else torch.float32
    stock = nn.Linear(d_in, d_out, bias=False).to(device, dtype)
    layer = ReparamLinear.from_layer(stock, Site(row["shape"], (d_out, d_in), (d_out,), False), terms, row["path"])
    if layer.low_rank_b is not None:
        nn.init.normal_(layer.low_rank_b, std=0.02)
    x = torch.randn(row["tokens"], d_in, device=device, dtype=dtype, requires_grad=True)
    grad = torch.randn(row["tokens"], d_out, device=device, dtype=torch.bfloat16)
    if row["path"] != "materialise" and (reason := broken(layer, x, grad, "bf16")):
        return {"speed_up": None, "why": reason}
    dense, ours = (step_of(module, x, grad) for module in (stock, layer))
    for step in (dense, ours):  # compilation, caches, the allocator
        seconds(step, device, 3)
    return alternate(dense, ours, lambda step: seconds(step, device, PASSES), pairs, digits=3)


def step_of(module: nn.Module, x: torch.Tensor, grad: torch.Tensor) -> Step:
    """A forward and a backward pass."""

    def run() -> None:
        x.grad = None
        module.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.dtype is torch.float32):
            y = module(x)
        y.backward(grad)

    return run


def seconds(step: Step, device: torch.device, passes: int) -> float:
    """Of a pass, the mean of several without a pause between them."""
    if device.type == "cpu":
        begin = time.perf_counter()
        step()
        return time.perf_counter() - begin
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    start.record()
    for _ in range(passes):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / passes


def is_met(row: dict[str, Any]) -> bool:
    """Whether a row reaches its goal."""
    return row["speed_up"] is not None and row["speed_up"] >= row["goal"]


def line_of(row: dict[str, Any]) -> str:
    """A row in one line."""
    beside = f" + rank {row['rank']}" if row["rank"] else ""
    what = f"{row['support']}{beside} {row['sparsity']:.0%}, {row['weights']}"
    layer = f"{row['path']:15s} {row['shape']:>11s} {row['tokens']:6d} tokens  {what}"
    goal = "" if row["goal"] is None else f"  goal {row['goal']:.2f} {'met' if is_met(row) else 'MISSED'}"
    if row["speed_up"] is None:
        return f"{layer:70s} not timed: {row['why']}{goal}"
    low, high = row["middle_half"]
    return f"{layer:70s} dense {row['dense_ms']:8.3f} ms  {row['speed_up']:5.2f}x [{low:.2f} to {high:.2f}]{goal}"


if __name__ == "__main__":
    main()
