"""SLTrain's layers against `nn.Linear` on one core: forward and backward, and one token at a time.

    python benchmarks/sltrain_layers.py
    python benchmarks/sltrain_layers.py --paths factored materialise --tokens 1 512 --pairs 21

Shapes and ranks are those of the released configurations from 60M to 1B. Up to 16 tokens the forward pass alone is
timed, without gradients, as in decoding; above, forward and backward with gradients of the input and all parameters.
Dense and path take turns, each timed by processor time; the record holds the median ratio and its middle half, and
beside it the ratio that the released code had on the same work (measured on another machine of the same kind; it
builds W, and the whole gradient of W, in every call). A ratio below 1 is faster than dense.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from record import write_record
from torch import nn

from fallow.linear import Drawn, LowRank, ReparamLinear, Site, Sparse, Terms
from fallow.random import Key
from fallow.supports import Uniform

SHAPES = ["512x512:128", "512x1376:128", "768x2048:256", "2048x768:256", "2048x5461:512", "5461x2048:512"]
RELEASED = {
    ("512x512:128", 1): 18.6, ("512x512:128", 16): 5.8, ("512x512:128", 512): 1.39, ("512x512:128", 2048): 1.10,
    ("512x1376:128", 1): 9.6, ("512x1376:128", 16): 5.2, ("512x1376:128", 512): 1.37, ("512x1376:128", 2048): 1.09,
    ("768x2048:256", 1): 22.5, ("768x2048:256", 16): 8.7, ("768x2048:256", 512): 1.69, ("768x2048:256", 2048): 1.17,
    ("2048x5461:512", 1): 76.0, ("2048x5461:512", 16): 13.4, ("2048x5461:512", 512): 2.31,
    ("2048x5461:512", 2048): 1.36,
}  # fmt: skip
"""Ratio of the released layer to `nn.Linear`, by shape and tokens."""

GOALS = {
    ("512x512:128", 512): 1.1, ("512x512:128", 2048): 1.1, ("768x2048:256", 512): 0.9, ("768x2048:256", 2048): 0.9,
    ("2048x5461:512", 512): 0.6, ("2048x5461:512", 2048): 0.6, ("512x512:128", 1): 2.0, ("2048x5461:512", 1): 0.8,
}  # fmt: skip
DENSITY = 0.03
NOTES = "density 0.03, fp32, one thread; other work was on the machine"


def main() -> None:
    """Measure every combination and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="d_in x d_out : rank")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 16, 512, 2048])
    parser.add_argument("--paths", nargs="+", default=["factored"])
    parser.add_argument("--pairs", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for tokens in args.tokens:
        for text in args.shapes:
            d_in, d_out, rank = (int(part) for part in text.replace(":", "x").split("x"))
            dense = nn.Linear(d_in, d_out, bias=False)
            for path in args.paths:
                layer = layer_of(dense, d_in, d_out, rank, path)
                kept = sum(buffer.nbytes for buffer in layer.buffers())
                ratios = sorted(pair(dense, layer, tokens, d_in, d_out) for _ in range(args.pairs))
                found = {
                    "shape": text,
                    "path": path,
                    "tokens": tokens,
                    "pass": "forward" if tokens <= 16 else "forward and backward",
                    "ratio_to_dense": round(statistics.median(ratios), 3),
                    "middle_half": [round(ratios[len(ratios) // 4], 3), round(ratios[-1 - len(ratios) // 4], 3)],
                    "goal": GOALS.get((text, tokens)) if path == "factored" else None,
                    "released_code": RELEASED.get((text, tokens)),
                    "index_bytes_an_entry": round(kept / layer.values.numel(), 2),
                }
                results.append(found)
                print(*found.values(), flush=True)
                record = write_record("sltrain-layers", results, notes=NOTES)  # whole after every line
    print(record)


def layer_of(dense: nn.Linear, d_in: int, d_out: int, rank: int, path: str) -> ReparamLinear:
    """The layer with B away from zero, as in training."""
    terms = Terms(
        low_rank=LowRank(rank=rank, alpha=16.0, key=Key(0, "a")),
        sparse=Sparse(kind=Uniform(), density=DENSITY, key=Key(0, "s"), parts=(d_out,), start=Drawn()),
    )
    layer = ReparamLinear.from_layer(dense, Site("fc", (d_out, d_in), (d_out,), False), terms, path)
    nn.init.normal_(layer.low_rank_b)
    return layer


def pair(dense: nn.Module, layer: nn.Module, tokens: int, d_in: int, d_out: int) -> float:
    """Time of the layer over the time of the dense one, right after each other."""
    x, g = torch.randn(tokens, d_in), torch.randn(tokens, d_out)
    first, second = (timed(call(module, x, g)) for module in (dense, layer))
    return second / first


def call(module: nn.Module, x: torch.Tensor, g: torch.Tensor) -> Callable[[], None]:
    """What is timed."""

    def decode() -> None:
        with torch.no_grad():
            module(x)

    def train() -> None:
        module(x.requires_grad_()).backward(g)
        x.grad = None
        for parameter in module.parameters():
            parameter.grad = None

    return decode if x.shape[0] <= 16 else train


def timed(work: Callable[[], None]) -> float:
    """Processor time of one call, the mean over enough of them."""
    work()
    repeats, spent = 0, 0.0
    while spent < 0.02:
        start = time.process_time()
        work()
        spent += time.process_time() - start
        repeats += 1
    return spent / repeats


if __name__ == "__main__":
    main()
