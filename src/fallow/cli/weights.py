"""How an unmerged model computes texts: by merged weights, or by its terms apart."""

import sys
from typing import Any, Literal

from fallow.errors import UserError

Weights = Literal["auto", "merged", "apart"]

_LARGE = 400_000
"""Positions of a matrix from which factors and entries beat the merged matrix at one token, on the CPUs it was measured
on (benchmarks/sltrain_layers.py): 1.15 of its time at 256 x 688, 0.7 at 512 x 1376, 0.5 at 2048 x 5461."""


def settle(model: Any, choice: Weights, device: Any) -> Any:
    """Move a model to its device and merge its weights, or not, and say which on standard error.

    Merged, a layer reads one dense matrix for each token. Apart, it reads factors and entries: fewer numbers, but
    several products, which pays on a CPU with compiled kernels where matrices are large. Prompts are computed the same
    way.

    Args:
        model: as it was loaded.
        choice: `auto` goes by the layers' paths and sizes on this device.
        device: where to compute.

    Raises:
        UserError: `apart`, and the model is merged already.
    """
    from fallow.conversion import can_merge, merge
    from fallow.counting import count
    from fallow.methods.base import reparam_layers

    layers = list(reparam_layers(model).values())
    if choice != "merged" and not can_merge(model):
        return model.to(device)
    if not layers:
        if choice == "apart":
            raise UserError("--weights is apart, but this model is merged: its weights are whole. Remove it")
        return merge(model).to(device)  # heads or gates may have been put on it
    model = model.to(device)
    sizes = {layer: layer.site.shape[0] * layer.site.shape[1] for layer in layers}
    large = sum(size for size in sizes.values() if size >= _LARGE)
    why = "asked for"
    if choice == "auto":
        slow = next((layer for layer in layers if layer.path != "factored"), None)
        if slow is not None:
            choice, why = "merged", f"path {slow.path} would build matrices, or pass over them, for each token"
        elif 2 * large < sum(sizes.values()):
            choice, why = "merged", "its matrices are small"
        else:
            choice, why = "apart", "factors and entries of large matrices are fewer numbers to read"
    counts = count(model)
    whole, apart = f"{counts.positions:,} numbers", f"{counts.stored:,} numbers"
    if choice == "merged":
        model = merge(model)
    sizes_said = f"{whole} ({apart} apart)" if choice == "merged" else f"{apart} ({whole} merged)"
    print(f"weights {choice}: {sizes_said}; {why}", file=sys.stderr)
    return model
