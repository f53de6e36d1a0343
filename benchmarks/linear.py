"""The layer's paths against `nn.Linear`: forward and backward, in alternating pairs, by processor time.

    python benchmarks/linear.py
    python benchmarks/linear.py --shapes 768x768 3072x768 --tokens 1024 --sparsities 0.5 0.75 --pairs 9

A ratio below 1 is faster than dense. Each pair times dense and the path right after each other; the record holds the
median ratio and the range of the middle half, so that a noisy machine shows.
"""

import argparse
import statistics
import time

import torch
from record import write_record
from torch import nn

from fallow.linear import ReparamLinear, Site, Sparse, Terms
from fallow.linear.paths import PATHS
from fallow.random import Key
from fallow.supports import Uniform


def main() -> None:
    """Measure every combination and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["256x256", "768x768", "3072x768", "768x3072"])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 1024])
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.5, 0.75, 0.97])
    parser.add_argument("--pairs", type=int, default=7)
    args = parser.parse_args()
    results = []
    for shape in args.shapes:
        d_out, d_in = map(int, shape.split("x"))
        dense = nn.Linear(d_in, d_out)
        for sparsity in args.sparsities:
            support = Sparse(kind=Uniform(), density=1 - sparsity, key=Key(0, shape), parts=(d_out,))
            for tokens in args.tokens:
                for path in PATHS:
                    if path == "factored" and tokens * (1 - sparsity) * d_out * d_in > 2e8:
                        continue  # seconds a call: this path is for few tokens or few entries
                    site = Site(shape, (d_out, d_in), (d_out,), False)
                    layer = ReparamLinear.from_layer(dense, site, Terms(sparse=support), path)
                    ratios = sorted(pair(dense, layer, tokens, d_in) for _ in range(args.pairs))
                    found = {
                        "shape": shape,
                        "tokens": tokens,
                        "sparsity": sparsity,
                        "path": path,
                        "ratio_to_dense": round(statistics.median(ratios), 3),
                        "middle_half": [round(ratios[len(ratios) // 4], 3), round(ratios[-1 - len(ratios) // 4], 3)],
                    }
                    results.append(found)
                    print(*found.values())
    print(write_record("linear", results))


def pair(dense: nn.Module, layer: nn.Module, tokens: int, d_in: int) -> float:
    """Time of the layer over the time of the dense one."""
    x = torch.randn(tokens, d_in, requires_grad=True)
    first, second = (timed(module, x) for module in (dense, layer))
    return second / first


def timed(module: nn.Module, x: torch.Tensor) -> float:
    """Processor time of a forward and backward pass, the mean over enough of them."""
    module(x).sum().backward()
    repeats, spent = 0, 0.0
    while spent < 0.05:
        start = time.process_time()
        module(x).sum().backward()
        spent += time.process_time() - start
        repeats += 1
    return spent / repeats


if __name__ == "__main__":
    main()
