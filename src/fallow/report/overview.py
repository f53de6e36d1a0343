"""What a report of one or several runs holds: one table, curves and costs over all of them, as plain JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fallow.report.runs import Run
from fallow.report.seeds import Group, costs_of, curves_of, grouped, rows_of
from fallow.report.tables import Results, Row

_SEEDS = {"key": "seeds", "title": "seeds", "digits": 0}


def overview(runs: Sequence[Run]) -> dict[str, Any]:
    """Group runs by recipe and put the groups side by side.

    Returns:
        A mapping of plain JSON: `groups` (title, seeds, folders), `columns` and `rows` as in `results.json` (values of
        several seeds are {"mean", "spread"}, the spread being the sample standard deviation), `charts` (one for each
        data set, with its `curves` and `costs`), `stages` (how far each stage of each run is), `notes`. Curves of data
        sets that have the same name but other settings are in charts of their own.
    """
    groups = grouped(runs)
    several = len(groups) > 1
    return {
        "groups": [
            {"title": group.title, "seeds": [run.seed for run in group.runs], "folders": [r.name for r in group.runs]}
            for group in groups
        ],
        **_table(groups, several),
        "charts": _charts(groups, several),
        "stages": [
            {"run": run.name, "recipe": run.title, "seed": run.seed, **asdict(state)}
            for run in runs
            for state in run.stages
        ],
        "notes": _notes(groups),
    }


def shown_label(group: Group, label: str, several: bool, seeds: int = 0) -> str:
    """What a line or a row is called: with its recipe where there are several, and the seeds that lack said."""
    name = f"{group.title}: {label}" if several else label
    return f"{name} ({seeds} of {len(group.counted)} seeds)" if 0 < seeds < len(group.counted) else name


def _table(groups: Sequence[Group], several: bool) -> dict[str, Any]:
    rows: list[Row] = []
    columns: dict[str, Mapping[str, Any]] = {}
    first: Mapping[str, Any] = {"key": "arm", "title": "arm"}
    for group in groups:
        found = [column for run in group.runs for column in run.results.get("columns", ())]
        if found:
            first = found[0]
        for column in found[1:]:
            if column["key"] != first["key"]:
                columns.setdefault(column["key"], column)
        for row in rows_of(group):
            label = str(row.get(found[0]["key"], "") if found else "")
            rows.append({**row, first["key"]: shown_label(group, label, several)})
    counted = [_SEEDS] if any(row["seeds"] != 1 for row in rows) else []
    return {"columns": [first, *counted, *columns.values()] if rows else [], "rows": rows}


def _charts(groups: Sequence[Group], several: bool) -> list[dict[str, Any]]:
    """One entry a data set: curves to draw together, and what each model cost."""
    charts: dict[str, dict[str, Any]] = {}

    def chart_of(group: Group, dataset: str) -> dict[str, Any]:
        recipe = group.runs[0].recipe
        # Losses are comparable where the text and its tokens are the same.
        data = {
            "data": (recipe.get("datasets") or {}).get(dataset),
            "tokenizer": recipe.get("tokenizer"),
            "own": None if recipe else group.title,
        }
        return charts.setdefault(
            json.dumps([dataset, data], sort_keys=True),
            {"dataset": dataset, "recipe": group.title, "curves": [], "costs": []},
        )

    for group in groups:
        for curve in curves_of(group):
            chart_of(group, curve.dataset)["curves"].append(
                {
                    "label": shown_label(group, curve.label, several, curve.seeds),
                    "kind": curve.kind,
                    "seeds": curve.seeds,
                    "flops_per_token": curve.flops,
                    "points": [[tokens, value.mean, value.spread] for tokens, value in curve.points],
                }
            )
        for cost in costs_of(group):
            entry = asdict(cost)
            entry["label"] = shown_label(group, cost.label, several, cost.seeds)
            chart_of(group, cost.dataset)["costs"].append(entry)
    found = list(charts.values())
    names = [chart["dataset"] for chart in found]
    for chart in found:
        same = names.count(chart["dataset"]) > 1
        chart["title"] = f"{chart['dataset']} ({chart['recipe']})" if same else chart["dataset"]
    return found


def _notes(groups: Sequence[Group]) -> list[str]:
    notes: list[str] = []
    for group in groups:
        notes += group.notes
        for run in group.runs:
            if run.unfinished:
                apart = "" if run in group.counted else " The means leave it out."
                notes.append(f"{run.name} is not finished: {', '.join(run.unfinished)}.{apart}")
            if not run.recipe:
                notes.append(f"{run.name} says no recipe, so that it stands alone and its costs are not known.")
        # What the runs themselves remark; the same remark of several runs once.
        notes += [str(note) for run in group.runs for note in run.results.get("notes", ())]
    return list(dict.fromkeys(notes))


def differences(groups: Sequence[Group]) -> Results:
    """A table of the settings in which recipes differ, one row a setting and one column a recipe; without rows for one.

    Stages are told apart by name, so that a recipe with a stage more does not differ in everything behind it; a stage
    that not all of them have is one row.
    """
    named = [_by_name(group.runs[0].settings()) for group in groups]
    common = set.intersection(*(set(one["stages"]) for one in named))
    plain = [_flat(_folded(one, common)) for one in named]
    keys = [
        key for key in dict.fromkeys(key for one in plain for key in one) if len({_text(p, key) for p in plain}) > 1
    ]
    columns = [{"key": "setting", "title": "setting"}]
    columns += [{"key": str(number), "title": group.title} for number, group in enumerate(groups)]
    rows = [{"setting": key, **{str(n): _text(one, key) for n, one in enumerate(plain)}} for key in keys]
    return {"columns": columns, "rows": rows if len(groups) > 1 else []}


def _by_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    stages = {str(stage.get("name")): stage for stage in settings.get("stages", ())}
    return {**settings, "stages": stages}


def _folded(settings: Mapping[str, Any], common: set[str]) -> dict[str, Any]:
    """The settings of stages that only some recipes have, as their method alone."""
    stages = {
        name: stage if name in common else f"{(stage.get('method') or {}).get('name', 'a stage')}"
        for name, stage in settings["stages"].items()
    }
    return {**settings, "stages": stages}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {
            k: v for key, part in value.items() for k, v in _flat(part, f"{prefix}.{key}" if prefix else key).items()
        }
    return {prefix: value}


def _text(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key, "-")
    return value if isinstance(value, str) and value else json.dumps(value)
