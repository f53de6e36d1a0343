"""Runs of one recipe with different seeds as one: mean and spread of rows, curves and costs."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fallow.report.runs import Run, loss_of
from fallow.report.tables import number_of


@dataclass(frozen=True, slots=True)
class Value:
    """Mean over seeds and, of two or more, the sample standard deviation (n - 1)."""

    mean: float
    spread: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float]) -> "Value":
        """Of one or more numbers.

        >>> Value.of([1.0, 3.0])
        Value(mean=2.0, spread=1.4142135623730951)
        """
        equal = all(value == values[0] for value in values)
        if equal:  # no rounding in a mean of equal numbers
            return cls(values[0])
        return cls(statistics.fmean(values), statistics.stdev(values))


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Loss over the tokens of one stage, as means over seeds."""

    label: str
    dataset: str
    kind: str

    points: Sequence[tuple[float, Value]]
    """Tokens of the stage, loss."""

    seeds: int
    """Runs that have this curve."""

    flops: float | None
    """Training FLOPs per token of the stage; None where nothing finished says it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a finished stage reached and what it cost."""

    label: str
    dataset: str
    loss: Value

    bytes: float | None
    """Weights, optimizer state and indices while it trained."""

    flops: float | None
    """Training FLOPs of the stage and of those that it began with."""

    seeds: int
    """Runs that finished it."""

    begins_with: str
    """Name of the stage that it began with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Runs of one recipe."""

    title: str
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def counted(self) -> tuple[Run, ...]:
        """The runs that means are taken over: the finished ones, so that every mean is over the same seeds.

        Where none is finished, all of them.
        """
        return tuple(run for run in self.runs if not run.unfinished) or self.runs

    @property
    def seeds(self) -> str:
        """Their seeds, in words."""
        found = [run.seed for run in self.runs if run.seed]
        return f"{'seed' if len(found) == 1 else 'seeds'} {', '.join(found)}" if found else ""


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Runs of equal recipes together, in order of appearance; a seed that is there twice counts once.

    Titles are names of recipes; where two different recipes share one, the folders of the runs.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        # Without a recipe nothing says that two runs belong together.
        key = json.dumps(run.settings(), sort_keys=True) if run.recipe else run.name
        groups.setdefault(key, []).append(run)
    titles = [found[0].title for found in groups.values()]
    made = []
    for found, title in zip(groups.values(), titles, strict=True):
        by_seed: dict[str, Run] = {}
        notes = []
        for run in found:
            first = by_seed.setdefault(run.seed, run)
            if first is not run:
                notes.append(f"{run.name} has the recipe and the seed of {first.name}, which is counted instead.")
        name = title if titles.count(title) == 1 else f"{title} in {found[0].name}"
        made.append(Group(title=name, runs=tuple(by_seed.values()), notes=tuple(notes)))
    return made


def rows_of(group: Group) -> list[dict[str, Any]]:
    """The rows of the runs, those of the same stages as one: numbers that differ become {"mean", "spread"}.

    The row of a run that is not finished is left out where another run has gone the same way further.
    """
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in group.counted:
        for row in run.results.get("rows", ()):
            key = tuple(row.get("stages") or (row.get("arm"),))
            found.setdefault(key, []).append(row)
    return [_merged(rows) for key, rows in found.items() if not any(_begins(other, key) for other in found)]


def _begins(longer: tuple[Any, ...], key: tuple[Any, ...]) -> bool:
    return len(longer) > len(key) and longer[: len(key)] == key


def _merged(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {"seeds": len(rows)}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if row.get(key) is not None]
        numbers = [number for value in values if (number := number_of(value)) is not None]
        if len(rows) == 1 or len(numbers) < len(values) or not numbers:
            merged[key] = values[0] if values else None
            continue
        value = Value.of(numbers)
        merged[key] = {"mean": value.mean, "spread": value.spread} if value.spread else values[0]
    return merged


def curves_of(group: Group) -> list[Curve]:
    """The curves of the runs, those of one label, data set and kind as one: the n-th points of all are averaged.

    Tokens that count can differ a little between seeds, so their means are taken too. A curve is as long as the
    shortest: a mean over fewer seeds would jump where one of them ends.
    """
    found: dict[tuple[str, str, str], list[tuple[Run, Sequence[Any]]]] = {}
    for run in group.counted:
        for curve in run.results.get("curves", ()):
            key = (str(curve["label"]), str(curve.get("stage", "")), str(curve.get("kind", "valid")))
            points = [point for point in curve["points"] if point[1] is not None and math.isfinite(point[1])]
            if points:
                found.setdefault(key, []).append((run, points))
    made = []
    for (label, dataset, kind), entries in found.items():
        together = zip(*(points for _, points in entries), strict=False)
        mean = [(statistics.fmean(x for x, _ in at), Value.of([y for _, y in at])) for at in together]
        flops = [value for run, _ in entries if (value := _flops_per_token(run, label, dataset)) is not None]
        per_token = statistics.fmean(flops) if flops else None
        made.append(Curve(label=label, dataset=dataset, kind=kind, points=mean, seeds=len(entries), flops=per_token))
    return made


def costs_of(group: Group) -> list[Cost]:
    """What each finished stage reached and cost, as means over the seeds that finished it."""
    stages = {str(stage["name"]): stage for run in group.counted for stage in run.recipe.get("stages", ())}
    made = []
    for name, stage in stages.items():
        records = [run.results["stages"][name] for run in group.counted if name in run.results.get("stages", {})]
        losses = [loss for record in records if (loss := loss_of(record)) is not None and math.isfinite(loss)]
        if not losses:
            continue
        sizes = [size for record in records if (size := _bytes(record["training"])) is not None]
        flops = [cost for run in group.counted if (cost := _flops_so_far(run, name, stages)) is not None]
        made.append(
            Cost(
                label=str(stage.get("label") or name),
                dataset=str(stage.get("dataset", "")),
                loss=Value.of(losses),
                bytes=statistics.fmean(sizes) if sizes else None,
                flops=statistics.fmean(flops) if flops else None,
                seeds=len(losses),
                begins_with=_source(stage),
            )
        )
    return made


def _flops_per_token(run: Run, label: str, dataset: str) -> float | None:
    """Of the tokens that the curve counts, which are those with a loss."""
    name = run.stage_of(label, dataset)
    training = run.results["stages"][name]["training"] if name else {}
    flops, tokens = training.get("flops"), training.get("tokens")
    return flops / tokens if flops and tokens else None


def _flops_so_far(run: Run, name: str, stages: Mapping[str, Mapping[str, Any]]) -> float | None:
    total = 0.0
    while name:
        record = run.results.get("stages", {}).get(name)
        if record is None or not record["training"].get("flops"):
            return None
        total += record["training"]["flops"]
        name = _source(stages[name]) if name in stages else ""
    return total


def _source(stage: Mapping[str, Any]) -> str:
    model = stage.get("model")
    return str(model.get("stage") or "") if isinstance(model, Mapping) else ""


def _bytes(training: Mapping[str, Any]) -> float | None:
    memory = training.get("memory")
    if not isinstance(memory, Mapping):
        return None
    parts = [part for part in (memory.get("layers"), memory.get("rest")) if isinstance(part, Mapping)]
    return float(sum(part.get(key, 0) for part in parts for key in ("weights", "optimizer", "indices")))
