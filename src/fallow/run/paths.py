"""The paths that compute the layers of a stage: chosen once, written down, and taken again after an interruption."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from fallow.errors import UserError
from fallow.files import read_sealed, write_sealed
from fallow.integrity import FORMAT
from fallow.linear import ReparamLinear, Sparse
from fallow.linear.paths import path_of
from fallow.linear.planner import MEASURE, Choice, usual
from fallow.linear.remembered import measured
from fallow.linear.timing import Precision, can_be_timed, name_of
from fallow.methods.base import reparam_layers
from fallow.run.main_first import main_first
from fallow.run.stage import AUTO, Stage
from fallow.train import Mesh

PATHS_FILE = "paths.json"
"""In the folder of a stage: the path of each layer, and why."""

_AGAIN = "Restore it, or delete the folder of that stage, and the same command trains it again."

Summary = list[dict[str, Any]]
"""For each shape, terms and path: how many layers, which path, and why."""


def settle_paths(
    mesh: Mesh,
    stage: Stage,
    model: nn.Module,
    folder: Path,
    tokens: int,
    say: Callable[[str], None],
    precision: Precision = "fp32",
) -> Summary:
    """Give each converted layer its path.

    The main process chooses, and writes the choice into the stage's folder; the others read it, and so does the same
    stage after an interruption, on whatever machine: another path would round otherwise. A path that cannot be used
    where it goes on is replaced, and the reason says so.

    Args:
        mesh: the processes.
        stage: says by what the paths are chosen.
        model: converted, or not at all.
        folder: of the stage.
        tokens: of a micro-batch, for a measurement.
        say: tells the user a line.
        precision: of the recipe, for a measurement.

    Raises:
        UserError: the stage names a path that cannot be used here.
    """
    layers, file = reparam_layers(model), folder / PATHS_FILE
    if not layers:
        return []
    with main_first(mesh) as is_main:
        known = read_sealed(file, _AGAIN, form=FORMAT)["layers"] if file.exists() else {}
        if stage.path == MEASURE and not known:
            say("  timing the paths of each layer shape on this machine")
        for name, layer in layers.items():
            choice = (
                _again(layer, known[name], mesh) if name in known else _choice(stage, layer, tokens, mesh, precision)
            )
            layer.use(*choice)
        if is_main and not known:
            folder.mkdir(parents=True, exist_ok=True)
            chosen = {name: {"path": layer.path, "why": layer.why} for name, layer in layers.items()}
            write_sealed(file, {"format": FORMAT, "layers": chosen})
    return summary_of(layers)


def summary_of(layers: dict[str, ReparamLinear]) -> Summary:
    """What the record of a stage says of its paths."""
    found: dict[tuple[Any, ...], int] = {}
    for layer in layers.values():
        terms = [term for term in ("base", "low_rank", "sparse") if getattr(layer.terms, term) is not None]
        sparse = layer.terms.sparse
        support = name_of(sparse.kind) if isinstance(sparse, Sparse) else ""
        sparsity = 0.0 if layer.values is None else 1 - layer.values.numel() / (layer.in_features * layer.out_features)
        shape = f"{layer.out_features}x{layer.in_features}"
        key = (shape, "+".join(terms), support, round(sparsity, 4), layer.path, layer.why)
        found[key] = found.get(key, 0) + 1
    names = ("shape", "terms", "support", "sparsity", "path", "why")
    return [{**dict(zip(names, key, strict=True)), "layers": count} for key, count in found.items()]


def _choice(stage: Stage, layer: ReparamLinear, tokens: int, mesh: Mesh, precision: Precision) -> Choice:
    shape = layer.site.shape
    if stage.path not in (AUTO, MEASURE):
        return Choice(stage.path, "the recipe says so")
    if stage.path == MEASURE and can_be_timed(layer.terms):
        return measured(layer.terms, shape, tokens, mesh.device, precision)
    return usual(layer.terms, shape, mesh.device.type)


def _again(layer: ReparamLinear, known: dict[str, str], mesh: Mesh) -> Choice:
    try:
        path_of(known["path"])
    except UserError:
        other = usual(layer.terms, layer.site.shape, mesh.device.type)
        return Choice(other.path, f"it began by path {known['path']}, which cannot be used here; {other.why}")
    return Choice(known["path"], known["why"])
