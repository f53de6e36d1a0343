"""What a sparsity saves on a model that need not fit into memory: FLOPs and their ceiling, parameters, bytes.

python examples/count_cost.py            GPT-2 Small and GPT-3 XL as in the SPDF paper
python examples/count_cost.py 4 256 8    4 layers, width 256, 8 heads
"""

import sys

import torch
from torch import nn

import fallow
from fallow.accounting import count_flops, measure_memory
from fallow.folder import build

CONTEXT, VOCABULARY = 2048, 50257
SHAPES = {"GPT-2 Small": (12, 768, 12), "GPT-3 XL": (24, 2048, 16)}
HEAD = "| model | sparsity | non-zero | stored | training FLOPs a token | fewer | ceiling | bytes of training |"


def gpt(layers: int, width: int, heads: int, sparsity: float) -> nn.Module:
    """On the meta device, where tensors have sizes and no contents."""
    shape = {"n_layer": layers, "n_embd": width, "n_head": heads, "n_positions": CONTEXT, "vocab_size": VOCABULARY}
    with torch.device("meta"):
        model = build({"model_type": "gpt2", **shape})
        if sparsity:
            fallow.convert(model, "sparse", sparsity=sparsity)
    return model


def adamw_after_a_step(model: nn.Module) -> torch.optim.Optimizer:
    """With gradients and both moments in place."""
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    return optimizer


def rows(name: str, layers: int, width: int, heads: int) -> list[str]:
    """One row of the table for each sparsity."""
    found = []
    for sparsity in (0.0, 0.5, 0.75):
        model = gpt(layers, width, heads, sparsity)
        counts, flops = fallow.count(model), count_flops(model, CONTEXT)
        memory = measure_memory(model, adamw_after_a_step(model))
        found.append(
            f"| {name} | {sparsity:.0%} | {counts.nonzero / 1e6:.1f} M | {counts.stored / 1e6:.1f} M "
            f"| {flops.training / 1e9:.3f} G | {flops.reduction:.2f}x | {flops.ceiling:.2f}x "
            f"| {memory.total / 1e9:.2f} GB |"
        )
    return found


def main() -> None:
    shapes = {"GPT": tuple(map(int, sys.argv[1:4]))} if len(sys.argv) > 3 else SHAPES
    print(HEAD, "| --- " * HEAD.count(" | ") + "| --- |", sep="\n")
    for name, (layers, width, heads) in shapes.items():
        print("\n".join(rows(name, layers, width, heads)))


if __name__ == "__main__":
    main()
