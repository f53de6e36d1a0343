"""A run as a report sees it: its results, its seed, and which of its stages are finished."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fallow.errors import UserError
from fallow.files import unsealed
from fallow.report.tables import Results

_NOT_THE_RECIPE = ("description", "notes", "output", "root", "device", "trackers", "seed")
_NOT_THE_STAGE = ("checkpoint", "seed")
"""Settings in which two runs of one recipe may differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageState:
    """How far a stage of a run is."""

    name: str
    label: str
    status: str
    """`finished`, `begun` or `not begun`."""

    steps: int = 0
    tokens: int = 0
    loss: float | None = None
    """The last validation loss; without one the last training loss."""

    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run, read from disk."""

    name: str
    """What the run is called where several are: its folder."""

    results: Results
    stages: tuple[StageState, ...]

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The resolved recipe; empty in files that hold none."""
        return self.results.get("recipe") or {}

    @property
    def title(self) -> str:
        """Name of the recipe, or of the folder."""
        return str(self.recipe.get("name") or self.name)

    @property
    def seed(self) -> str:
        """The seed; with the seeds of the stages where they have others."""
        seed = self.recipe.get("seed")
        stages = [stage.get("seed", seed) for stage in self.recipe.get("stages", ())]
        if any(own != seed for own in stages):
            return f"{seed} ({', '.join(map(str, stages))})"
        return "" if seed is None else str(seed)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Names of the stages that are not finished."""
        return tuple(stage.name for stage in self.stages if stage.status != "finished")

    def settings(self) -> dict[str, Any]:
        """The recipe without its seeds and without what does not decide results: equal in runs of one recipe."""
        plain = {key: value for key, value in self.recipe.items() if key not in _NOT_THE_RECIPE}
        stages = plain.get("stages", ())
        plain["stages"] = [{key: v for key, v in stage.items() if key not in _NOT_THE_STAGE} for stage in stages]
        return plain

    def stage_of(self, label: str, dataset: str) -> str:
        """The finished stage that a curve belongs to, from its label and data set; empty when none does."""
        for stage in self.recipe.get("stages", ()):
            if (stage.get("label") or stage["name"]) == label and stage.get("dataset") == dataset:
                return str(stage["name"]) if stage["name"] in self.results.get("stages", {}) else ""
        return ""


def read_results(path: Path) -> dict[str, Any]:
    """The mapping in a `results.json`.

    Raises:
        UserError: the file is absent, or not JSON with a table.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist. A finished run has one in its output folder")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(results, dict) or not results.get("columns"):
        raise UserError(f"{path} holds no results: it has no columns")
    return unsealed(path, results, "Delete it, and fallow report makes the page from the stages.")


def read_run(path: Path, results: Results | None = None) -> Run:
    """A run from its folder, or from a `results.json` that was copied out of one.

    Stages that are not in the results are looked for in the folder, for how far they are and for their losses.

    Args:
        path: the folder or the file.
        results: what the file holds, where it is known already.

    Raises:
        UserError: nothing there, or a file that is not the results of a run.
    """
    file = path if path.is_file() else path / "results.json"
    if results is None:
        if not path.exists():
            raise UserError(f"{path} does not exist. Name the folder of a run, such as runs/spdf-demo")
        results = read_results(file)
    check_results(results, file)
    folder = file.parent
    done = results.get("stages", {})
    planned = [stage for stage in (results.get("recipe") or {}).get("stages", ()) if isinstance(stage, Mapping)]
    states, curves = [], []
    for stage in planned:
        label = str(stage.get("label") or stage["name"])
        if stage["name"] in done:
            states.append(_finished(stage["name"], label, done[stage["name"]]))
            continue
        lines = _log(folder / str(stage["name"]) / "log.jsonl")
        states.append(_begun(stage["name"], label, lines))
        curves += _curves_of(f"{label} (unfinished)", str(stage.get("dataset", "")), lines)
    merged = {**results, "curves": [*results.get("curves", ()), *curves]}
    return Run(name=str(path), results=merged, stages=tuple(states))


def check_results(results: Results, path: Path) -> None:
    """Refuse a file whose parts are not what a report is made of.

    Raises:
        UserError: names the first part that is wrong.
    """
    recipe = results.get("recipe")
    if recipe is not None and not isinstance(recipe, Mapping):
        raise UserError(f"{path} is damaged: recipe is not a mapping")
    lists = {"columns": ("key", "title"), "rows": (), "curves": ("label", "points")}
    parts = [(key, results.get(key, ()), needed) for key, needed in lists.items()]
    parts.append(("recipe.stages", (recipe or {}).get("stages", ()), ("name",)))
    for key, entries, needed in parts:
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise UserError(f"{path} is damaged: {key} is not a list")
        for number, entry in enumerate(entries):
            if not isinstance(entry, Mapping):
                raise UserError(f"{path} is damaged: {key}.{number} is not a mapping")
            lacking = [name for name in needed if name not in entry]
            if lacking:
                raise UserError(f"{path} is damaged: {key}.{number} has no {lacking[0]}")
    for number, curve in enumerate(results.get("curves", ())):
        if not _are_points(curve["points"]):
            raise UserError(f"{path} is damaged: curves.{number}.points are not pairs of numbers")
    stages = results.get("stages", {})
    if not isinstance(stages, Mapping):
        raise UserError(f"{path} is damaged: stages is not a mapping")
    for name, record in stages.items():
        if not isinstance(record, Mapping) or not isinstance(record.get("training"), Mapping):
            raise UserError(f"{path} is damaged: stages.{name} has no training")


def _are_points(points: Any) -> bool:
    return isinstance(points, list) and all(
        isinstance(point, list)
        and len(point) == 2
        and isinstance(point[0], int | float)
        and (point[1] is None or isinstance(point[1], int | float))
        for point in points
    )


def _finished(name: str, label: str, record: Mapping[str, Any]) -> StageState:
    training = record["training"]
    return StageState(
        name=name,
        label=label,
        status="finished",
        steps=int(training.get("steps", 0)),
        tokens=int(training.get("tokens", 0)),
        loss=loss_of(record),
        seconds=training.get("seconds"),
    )


def loss_of(record: Mapping[str, Any]) -> float | None:
    """The loss of a finished stage on held-out data; where nothing is held out, that of training."""
    training = record["training"]
    for place in (record.get("scores") or {}, training.get("validation") or {}, training):
        loss = place.get("loss") if isinstance(place, Mapping) else None
        if isinstance(loss, int | float) and not isinstance(loss, bool):
            return float(loss)
    return None


def _begun(name: str, label: str, lines: Sequence[Mapping[str, Any]]) -> StageState:
    if not lines:
        return StageState(name=name, label=label, status="not begun")
    valid = [line["valid"]["loss"] for line in lines if "valid" in line and "loss" in line["valid"]]
    train = [line["loss"] for line in lines if "loss" in line]
    return StageState(
        name=name,
        label=label,
        status="begun",
        steps=int(lines[-1].get("step", 0)),
        tokens=int(lines[-1].get("tokens", 0)),
        loss=next((losses[-1] for losses in (valid, train) if losses), None),
    )


def _log(path: Path) -> list[dict[str, Any]]:
    """Lines of a log; one that a run is just writing is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _curves_of(label: str, dataset: str, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    train = [[line["tokens"], line["loss"]] for line in lines if "loss" in line and "tokens" in line]
    valid = [[line["tokens"], line["valid"].get("loss")] for line in lines if "valid" in line and "tokens" in line]
    curves = [{"label": label, "stage": dataset, "kind": "train", "points": train}] if train else []
    if len(valid) > 1:
        curves.append({"label": label, "stage": dataset, "kind": "valid", "points": valid})
    return curves
