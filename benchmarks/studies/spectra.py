"""Spectra before and after training: what low rank leaves over, and which term makes which part (Figs. 2 and 10)."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fallow.analysis.residuals import residual
from fallow.analysis.spectra import composition
from fallow.data.splits import open_tokenizer
from fallow.methods import SLTrain
from fallow.methods.base import reparam_layers
from fallow.run.heads.vocabulary import VocabularyHead
from fallow.run.sources import Origin, initial_model
from studies.study import Outcome, Setting, spread

RANK = 16
FILE = "low_rank.safetensors"
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept(SLTrain):
    """SLTrain that leaves its low-rank parts beside the merged model."""

    def write(self, model: nn.Module, folder: Path) -> None:
        """(alpha / r) B A of every layer."""
        save_file(low_rank_parts(model), folder / FILE)


def study(setting: Setting) -> Outcome:
    """Every seed: a full-rank and an SLTrain model, at the start and at the end; means over the blocks."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seed in setting.seeds:
        for name, weights, parts in _models(setting, seed):
            for kind in KINDS:
                values = [_numbers(weights[key], parts.get(key)) for key in weights if kind in key]
                mean = {key: statistics.fmean(value[key] for value in values) for key in values[0]}
                found.setdefault(name, {}).setdefault(kind, []).append(mean)
    rows = []
    for name, kinds in found.items():
        for kind, means in kinds.items():
            cells = [_cell(means, key) for key in ("left", "stable", "top", "head", "tail", "rank")]
            rows.append([f"{name}, {kind.removesuffix('_proj')}", *cells])
    heads = [
        "weights",
        f"norm² beyond rank {RANK} (%)",
        "stable rank",
        "norm² of the rest in its largest 3% (%)",
        f"BA's part of the first {RANK} values (%)",
        "BA's part of the others (%)",
        "rank of W / its full rank",
    ]
    return Outcome(found, heads, rows, "Means over the two blocks and over the seeds.")


def low_rank_parts(model: nn.Module) -> dict[str, Tensor]:
    """(alpha / r) B A of every converted layer, by the name of its weight."""
    found = {}
    for name, layer in reparam_layers(model).items():
        zero = layer.values.detach().clone()
        with torch.no_grad():
            layer.values.zero_()
            found[f"{name}.weight"] = layer.effective_weight().detach().clone().contiguous()
            layer.values.copy_(zero)
    return found


def _models(setting: Setting, seed: int) -> list[tuple[str, Mapping[str, Tensor], Mapping[str, Tensor]]]:
    """Name, weights of the blocks, low-rank parts."""
    recipe = setting.recipe(seed, setting.folder(seed))
    dense, arm = recipe.stage("full-rank"), recipe.stage("sltrain-16-03")
    tokenizer = open_tokenizer(recipe.tokenizer, [recipe.dataset("text")], setting.folder(seed))
    start = initial_model(dense, Origin(), tokenizer, VocabularyHead())
    settings = {key: getattr(arm.method, key) for key in ("rank", "density", "alpha")}
    kept = replace(arm, name="kept", method=Kept(**settings))
    output = setting.output / f"spectra-{seed}"
    setting.train(seed, output, [kept])
    begun = initial_model(kept, Origin(), tokenizer, VocabularyHead())
    parts = low_rank_parts(begun)
    whole = {f"{name}.weight": layer.effective_weight().detach() for name, layer in reparam_layers(begun).items()}
    after = load_file(str(output / "kept/model/model.safetensors"))
    trained = load_file(str(setting.folder(seed) / "full-rank/model/model.safetensors"))
    return [
        ("full rank, start", {key: start.get_parameter(key).detach() for key in whole}, {}),
        ("full rank, end", {key: trained[key] for key in whole}, {}),
        ("SLTrain, start", whole, parts),
        ("SLTrain, end", {key: after[key] for key in whole}, load_file(str(output / "kept/model" / FILE))),
    ]


def _numbers(weight: Tensor, low_rank: Tensor | None) -> dict[str, float]:
    values, left = residual(weight, RANK)
    found = {
        "left": 100 * (left.share or 0.0),
        "stable": values.stable_rank or 0.0,
        "top": 100 * (left.top or 0.0),
        "rank": int(torch.linalg.matrix_rank(weight.double())) / min(weight.shape),
    }
    if low_rank is not None:
        made = composition(weight, low_rank)
        for key, part in (("head", slice(RANK)), ("tail", slice(RANK, None))):
            total = sum(made.low_rank[part]) + sum(made.rest[part])
            found[key] = 100 * sum(made.low_rank[part]) / total
    return found


def _cell(means: list[dict[str, Any]], key: str) -> str:
    if key not in means[0]:
        return ""
    return f"{spread([mean[key] for mean in means])['mean']:.{2 if key == 'rank' else 1}f}"
