"""A stage with a grid: every combination is trained, and the one of the best validation is kept."""

import shutil
from pathlib import Path
from typing import Any

from fallow.data.splits import Splits
from fallow.files import atomic, write_folder
from fallow.folder import load
from fallow.run.main_first import main_first
from fallow.run.output import UNMERGED, told
from fallow.run.stage import Stage
from fallow.run.training import Bench, Trained, train

_KEPT = ("model", UNMERGED, "log.jsonl", "method.jsonl", "references.json", "timing.jsonl")


def best_trial(bench: Bench, stage: Stage, splits: Splits, folder: Path) -> tuple[Trained, dict[str, Any]]:
    """Train the trials that are not finished, each in a folder of its own, and take the best one for the stage.

    Args:
        bench: what all stages share.
        stage: with a grid.
        splits: its data.
        folder: of the stage; gets the chosen trial's model and logs.

    Returns:
        The chosen trial, and what there is to tell of all of them.
    """
    tried: list[dict[str, Any]] = []
    found: list[tuple[float, Path, dict[str, Any]]] = []
    for number, (settings, trial) in enumerate(stage.trials()):
        at = folder / "trials" / f"{number:02d}"
        numbers = bench.output.finished(at, needs=["loss"])
        if numbers is not None:
            with main_first(bench.mesh) as is_main:
                if is_main:
                    bench.lineage.check_finished(trial, at, numbers)
        else:
            title = f"{stage.name} " + " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())
            numbers = _trained(bench, trial, splits, at, title)
        if bench.mesh.is_main:
            bench.output.tidy(at)  # also where a kill came between the trial's record and this
        measured = numbers.get("validation") or {"loss": numbers["loss"]}
        by = stage.validation.by
        tried.append({"settings": settings, by: float(measured[by])})
        found.append((stage.validation.cost(measured), at, told(numbers)))
    chosen = min(range(len(found)), key=lambda number: found[number][0])
    _, at, numbers = found[chosen]
    if bench.mesh.is_main:
        for name in _KEPT:
            _copy(at / name, folder / name)
    bench.mesh.barrier()
    model = load(folder / "model").float().to(bench.mesh.device) if bench.mesh.is_main else None
    return Trained(model, numbers), {"grid": {"tried": tried, "chosen": chosen}}


def _trained(bench: Bench, trial: Stage, splits: Splits, at: Path, title: str) -> dict[str, Any]:
    with main_first(bench.mesh) as is_main:
        if is_main:
            bench.lineage.begin(trial, at)
    numbers = train(bench, trial, splits, at, title).numbers
    if bench.mesh.is_main:
        bench.output.finish(at, numbers)
        numbers = bench.output.finished(at, needs=["loss"]) or {}  # as every later start will find it
    return dict(bench.mesh.broadcast_object(numbers))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        with write_folder(target) as temporary:
            shutil.copytree(source, temporary, dirs_exist_ok=True)
    elif source.exists():
        with atomic(target) as temporary:
            shutil.copy2(source, temporary)
