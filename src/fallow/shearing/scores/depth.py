"""Scores of whole layers: how much one changes the stream, or how much its absence costs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fallow.shearing.families import Family
from fallow.shearing.groups import Group
from fallow.shearing.scores.example import Example, run
from fallow.shearing.shape import Shape
from fallow.shearing.valves import Valves


@torch.no_grad()
def influence(model: nn.Module, family: Family, source: Shape, examples: Sequence[Example]) -> Tensor:
    """One minus the cosine between what goes into a layer and what comes out, averaged over positions.

    Block influence of ShortGPT (Men et al., 2024, arXiv 2403.03853). Shape (L,).
    """
    totals = torch.zeros(source.layers, dtype=torch.float64)
    num = 0

    def watch(number: int) -> Any:
        def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            totals[number] += float((1.0 - F.cosine_similarity(before.float(), after.float(), dim=-1)).sum())

        return see

    handles = [
        model.get_submodule(f"{family.blocks}.{number}").register_forward_hook(watch(number), with_kwargs=True)
        for number in range(source.layers)
    ]
    try:
        run(model, examples)
    finally:
        for handle in handles:
            handle.remove()
    num = sum(ids.numel() for ids, _ in examples)
    return totals / num


@torch.no_grad()
def drop_one(model: nn.Module, family: Family, source: Shape, examples: Sequence[Example]) -> Tensor:
    """The loss without a layer, for each layer: shape (L,). Costs a pass over the examples for every layer.

    Shortened LLaMA's criterion (Kim et al., 2024, arXiv 2402.02834), which takes the perplexity.
    """
    group = Group("layers", (), source.layers, source.layers)
    valves = Valves(model, family, source, [group])
    losses = torch.zeros(source.layers, dtype=torch.float64)
    device = next(model.parameters()).device
    try:
        for number in range(source.layers):
            gates = torch.ones(source.layers, device=device)
            gates[number] = 0.0
            valves.set({"layers": gates})
            seen: list[float] = []
            run(model, examples, lambda loss, seen=seen: seen.append(float(loss)))  # type: ignore[misc]
            losses[number] = sum(seen) / len(seen)
    finally:
        valves.remove(model)
    return losses
