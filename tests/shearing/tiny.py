"""Tiny models of every family that can be sheared, with weights far from their initial ones."""

from typing import Any

import torch
from torch import nn

from fallow.folder import build
from fallow.shearing.families import Family, family_of
from fallow.shearing.groups import Group, best, groups_of
from fallow.shearing.shape import Axis, Shape
from tests.conformance.families import CONFIGS

_GROUPED = CONFIGS["llama"]

MODELS: dict[str, dict[str, Any]] = {
    **CONFIGS,
    "llama with biases": {**_GROUPED, "attention_bias": True, "mlp_bias": True},
    "gemma": {**_GROUPED, "model_type": "gemma", "head_dim": 8},
    "gemma untied": {**_GROUPED, "model_type": "gemma", "head_dim": 8, "tie_word_embeddings": False},
    "gpt_neox sequential": {**CONFIGS["gpt_neox"], "use_parallel_residual": False},
}
GROUPED = [name for name, config in MODELS.items() if "num_key_value_heads" in config]


def model_of(name: str) -> nn.Module:
    """The model, with every parameter moved so that biases and norms matter."""
    torch.manual_seed(0)
    model = build(MODELS[name]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def facts(model: Any) -> tuple[Family, Shape]:
    """Family and sizes."""
    family = family_of(model.config)
    return family, family.shape_of(model.config)


def smaller(source: Shape, sharing: str = "auto") -> Shape:
    """Half of everything."""
    kv_heads = 1 if sharing == "whole" or source.group == 1 else source.kv_heads
    heads = source.heads // 2
    return source.with_sizes(
        layers=1, hidden=16, heads=heads, kv_heads=kv_heads if source.group > 1 else heads, inner=24
    )


def soft_gates(source: Shape, target: Shape, sharing: Any = "auto") -> tuple[tuple[Group, ...], dict[Axis, Any]]:
    """Gates spread between 0.2 and 1, as many above 0 as the target wants."""
    groups = groups_of(source, target, sharing)
    draw = torch.Generator().manual_seed(5)
    gates = {}
    for group in groups:
        mask = best(torch.rand(group.shape, generator=draw), group.keep)
        gates[group.axis] = mask * (0.2 + 0.8 * torch.rand(group.shape, generator=draw))
    return groups, gates


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((a - b).norm() / b.norm())
