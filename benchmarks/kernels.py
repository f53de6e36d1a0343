"""The compiled kernels against `nn.functional.linear`: forward and backward of a layer, everything included.

    python benchmarks/kernels.py                       all goals, one and two threads; half an hour
    python benchmarks/kernels.py --threads 1 --pairs 5 --shapes 768x768
    python benchmarks/kernels.py --peers sparseprop csr

A speed-up of 2 means: half the time of dense. Each pair times dense and sparse right after each other, in the one order
and in the other by turns; the record holds the median of the pairs and the range of their middle half. One thread is
measured by processor time, which a busy machine disturbs least; several by the clock, so let the machine rest. Rows are
written as they are found, and a second call on the same day goes on where the first one stopped (`--again` does not).

Included are the re-layout of activations, the copies of values into the order of a walk, and the gradients of input,
weight and bias. Peers are what you have installed: `sparseprop` (its own package) and `csr` (torch's).
"""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import torch
from pairs import Step, alternate
from record import RECORDS, processor, today, write_record
from torch import Tensor, nn

from fallow.linear import ReparamLinear, Site, Sparse, Terms
from fallow.linear.kernels.library import library, missing
from fallow.random import Key
from fallow.supports import kind_of

GOALS = {
    ("uniform", 0.5): 1.0, ("uniform", 0.75): 2.0, ("uniform", 0.9): 3.5,
    ("1:4", 0.75): 2.0, ("2:4", 0.5): 1.0,
    ("vector:4", 0.5): 1.5, ("vector:4", 0.75): 2.7, ("vector:4", 0.9): 3.5,
    ("block:4", 0.75): 3.2, ("block:8", 0.75): 3.2,
}  # fmt: skip
"""Least speed-up wanted, by support and sparsity; of `n:m` supports what uniform ones want."""

SHAPES = ("768x768", "3072x768", "768x3072", "2048x2048")
PEERS = ("sparseprop", "csr")


def main() -> None:
    """Measure every row that is not in today's record, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="d_out x d_in")
    parser.add_argument("--supports", nargs="+", default=[f"{kind}@{sparsity:g}" for kind, sparsity in GOALS])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[], help="at uniform supports")
    parser.add_argument("--again", action="store_true", help="forget today's rows")
    args = parser.parse_args()
    kernels = library()
    if kernels is None:
        raise SystemExit(f"there are no compiled kernels here: {missing()}")
    note = f"instruction set {kernels.engine}; speed_up is time of dense over time of the row, median of pairs"
    rows = [] if args.again else todays()
    done = {key_of(row) for row in rows}
    for wanted in wanted_rows(args):
        if key_of(wanted) in done:
            continue
        torch.set_num_threads(wanted["threads"])
        rows.append({**wanted, **measured(wanted, args.pairs), "engine": kernels.engine})
        write_record("kernels", rows, notes=note)
        print(line_of(rows[-1]), flush=True)
    print()
    missed = [row for row in rows if row["goal"] and row["speed_up"] < row["goal"]]
    for row in rows:
        print(line_of(row))
    met = sum(row["goal"] is not None for row in rows) - len(missed)
    print(f"\n{met} goals met, {len(missed)} missed. {write_record('kernels', rows, notes=note)}")


def wanted_rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What to measure: supports inside shapes inside threads."""
    for threads in args.threads:
        for shape in args.shapes:
            for support in args.supports:
                kind, _, sparsity = support.partition("@")
                at = {"shape": shape, "tokens": args.tokens, "support": kind, "sparsity": float(sparsity)}
                goal = GOALS.get((kind, float(sparsity)))
                yield {"by": "fallow", **at, "threads": threads, "goal": goal}
                for peer in args.peers if kind == "uniform" else ():
                    yield {"by": peer, **at, "threads": threads, "goal": None}


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a row itself."""
    return tuple(row[name] for name in ("by", "shape", "tokens", "support", "sparsity", "threads"))


def todays() -> list[dict[str, Any]]:
    """Rows that this machine has measured today."""
    path = RECORDS / f"{today()}-kernels.json"
    if not path.exists():
        return []
    record = json.loads(path.read_text())
    return record["results"] if record["processor"] == processor() else []


def line_of(row: dict[str, Any]) -> str:
    """A row in one line."""
    goal = (
        "" if row["goal"] is None else f"goal {row['goal']:.1f} {'met' if row['speed_up'] >= row['goal'] else 'MISSED'}"
    )
    low, high = row["middle_half"]
    return (
        f"{row['by']:10s} {row['shape']:>9s} {row['support']:9s} {row['sparsity']:4.0%} {row['threads']} threads  "
        f"dense {row['dense_ms']:7.1f} ms  {row['speed_up']:5.2f}x [{low:.2f} to {high:.2f}]  {goal}"
    )


def measured(row: dict[str, Any], pairs: int) -> dict[str, Any]:
    """Alternating pairs of dense and the row."""
    dense, ours = steps_of(row)
    clock = time.process_time if row["threads"] == 1 else time.perf_counter
    for step in (dense, ours):  # caches, pages, the allocator
        step()
        step()

    def seconds(step: Step) -> float:
        begin = clock()
        step()
        step()
        return (clock() - begin) / 2

    clock_name = "processor" if row["threads"] == 1 else "wall"
    return {**alternate(dense, ours, seconds, pairs, digits=2), "clock": clock_name}


def steps_of(row: dict[str, Any]) -> tuple[Step, Step]:
    """Forward and backward of the dense layer, and of the one that the row is about."""
    d_out, d_in = map(int, row["shape"].split("x"))
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(row["tokens"], d_in, generator=draw, requires_grad=True)
    g = torch.randn(row["tokens"], d_out, generator=draw)
    stock = nn.Linear(d_in, d_out)
    sparse = Sparse(kind=kind_of(row["support"]), density=1 - row["sparsity"], key=Key(0, row["shape"]), parts=(d_out,))
    layer = ReparamLinear.from_layer(
        stock, Site(row["shape"], (d_out, d_in), (d_out,), False), Terms(sparse=sparse), "sparse"
    )
    ours: nn.Module = layer if row["by"] == "fallow" else peer_of(row["by"], layer)

    def step(module: nn.Module) -> Step:
        def run() -> None:
            x.grad = None
            module.zero_grad(set_to_none=True)
            module(x).backward(g)

        return run

    return step(stock), step(ours)


def peer_of(name: str, layer: ReparamLinear) -> nn.Module:
    """Another implementation with the same weight."""
    weight = layer.effective_weight().detach()
    if name == "csr":
        return Csr(weight, layer.bias)
    from sparseprop.modules import SparseLinear  # type: ignore[import-not-found]

    bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
    module: nn.Module = SparseLinear(weight, bias)
    return module


class Csr(nn.Module):
    """torch's own compressed rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """The weight's zeros are left out."""
        super().__init__()
        self.weight = nn.Parameter(weight.to_sparse_csr())
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """Y = x W^T + bias."""
        y: Tensor = (self.weight @ x.t()).t()
        return y if self.bias is None else y + self.bias


if __name__ == "__main__":
    main()
