"""The pages of runs: one run from its results, and one or several runs side by side."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from fallow.report.charts import LineSeries, ScatterPoint, line_chart, point_chart, series_of, shown_range
from fallow.report.overview import differences, overview
from fallow.report.render import render
from fallow.report.runs import Run
from fallow.report.sections import gates_view, mixtures_view
from fallow.report.seeds import grouped
from fallow.report.tables import Results, table_view

Chart = Mapping[str, Any]
Figure = dict[str, Any]
"""`title`, `drawn` (SVG) and `caption`."""


def run_page(results: Results) -> str:
    """The page of a run from what `results.json` holds; the same results always give the same page."""
    recipe = results.get("recipe") or {}
    name = str(recipe.get("name") or "results")
    labels = dict.fromkeys(str(curve.get("label", "")) for curve in results.get("curves", ()))
    style = {label: number for number, label in enumerate(labels)}
    return render(
        "run.html",
        title=name,
        command="fallow run",
        heading=name,
        description=str(recipe.get("description") or ""),
        table=table_view(results, style),
        domains=table_view(results.get("domains") or {}, {}),
        curves=_curves(results, style),
        gates=gates_view(results),
        mixtures=mixtures_view(results),
        samples=_samples(results, style),
        notes=[str(note) for note in results.get("notes", ())],
        settings=_settings(recipe),
        footer="Made by fallow from results.json, which holds every number unrounded.",
    )


def runs_page(runs: Sequence[Run]) -> str:
    """The page of one or several runs, grouped by recipe; the same runs always give the same page."""
    found, groups = overview(runs), grouped(runs)
    labels = dict.fromkeys(entry["label"] for chart in found["charts"] for entry in (*chart["curves"], *chart["costs"]))
    style = {label: number for number, label in enumerate(labels)}
    spread = any(len(group.runs) > 1 for group in groups)
    one = runs[0].results if len(runs) == 1 else {}
    title = groups[0].title if len(groups) == 1 else f"{len(groups)} recipes side by side"
    return render(
        "runs.html",
        title=title,
        command="fallow report",
        heading=title,
        description=str(groups[0].runs[0].recipe.get("description") or "") if len(groups) == 1 else "",
        groups=_groups(found["groups"]) if len(runs) > 1 else [],
        table=table_view(found, style),
        table_intro="Mean and, behind the sign, sample standard deviation over the seeds." if spread else "",
        charts=[
            {"number": number, "title": f"Loss on {chart['title']}", "figures": _figures(chart, style, spread=spread)}
            for number, chart in enumerate(found["charts"])
        ],
        stages=_stages(found["stages"], several=len(runs) > 1),
        samples=_samples(one, style),
        notes=[str(note) for note in found["notes"]],
        differences=table_view(differences(groups), {}),
        settings=_settings(runs[0].recipe) if len(groups) == 1 else "",
        footer="Made by fallow from the results.json of each run, which hold every number unrounded.",
    )


def _curves(results: Results, style: Mapping[str, int]) -> list[Figure]:
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for curve in results.get("curves", ()):
        stages.setdefault(str(curve.get("stage", "")), []).append(curve)
    figures = []
    for stage, curves in stages.items():
        series = [one for one in series_of(curves, style) if one.points]
        if series:
            drawn = line_chart(series, title=f"{stage}: loss against tokens", x_title="training tokens")
            kinds = {str(curve.get("kind", "valid")) for curve in curves}
            caption = {
                frozenset({"train", "valid"}): "Strong with marks: validation loss. Faint: training loss.",
                frozenset({"train"}): "Training loss.",
            }.get(frozenset(kinds), "Validation loss.")
            figures.append(_figure(stage, series, drawn, caption))
    return figures


def _samples(results: Results, style: Mapping[str, int]) -> list[dict[str, Any]]:
    """Texts that the models generated, side by side."""
    shown = []
    for sample in results.get("samples", ()):
        references = [str(text) for text in sample.get("references", ())]
        shown.append(
            {
                "context": str(sample.get("context", "")),
                "title": "Reference" if len(references) == 1 else f"References ({len(references)})",
                "references": references,
                "outputs": [
                    {"label": str(label), "colour": style.get(str(label)), "text": str(text)}
                    for label, text in sample.get("outputs", {}).items()
                ],
            }
        )
    return shown


def _settings(recipe: Mapping[str, Any]) -> str:
    """A recipe as YAML; empty without one."""
    if not recipe:
        return ""
    import yaml

    plain = json.loads(json.dumps(recipe, default=str))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
    return text


def _groups(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "title": group["title"],
            "runs": [
                {"folder": folder, "seed": seed} for folder, seed in zip(group["folders"], group["seeds"], strict=True)
            ],
        }
        for group in groups
    ]


def _figures(chart: Chart, style: Mapping[str, int], *, spread: bool) -> list[Figure]:
    found = [
        _tokens(chart, style, spread=spread),
        _flops(chart, style),
        _points(chart, style, "bytes", "bytes", "bytes of weights and optimizer", "Last loss against bytes"),
        _points(chart, style, "flops", "", "training FLOPs, earlier stages included", "Last loss against all FLOPs"),
    ]
    return [figure for figure in found if figure is not None]


def _tokens(chart: Chart, style: Mapping[str, int], *, spread: bool) -> Figure | None:
    series = _series(chart, style)
    kinds = {curve["kind"] for curve in chart["curves"]}
    caption = "Strong with marks: validation loss. Faint: training loss." if "valid" in kinds else "Training loss."
    if spread:
        caption += " Shade: one standard deviation over the seeds to both sides of their mean."
    drawn = line_chart(series, title=f"{chart['title']}: loss against tokens", x_title="training tokens")
    return _figure("Against tokens", series, drawn, caption) if drawn else None


def _flops(chart: Chart, style: Mapping[str, int]) -> Figure | None:
    series = _series(chart, style, flops=True)
    if not series:
        return None
    unit, power = _unit(max(x for one in series for x, _ in one.points))
    scaled = [
        LineSeries(
            label=one.label,
            kind=one.kind,
            style=one.style,
            points=[(x / unit, y) for x, y in one.points],
            band=[(x / unit, low, high) for x, low, high in one.band],
        )
        for one in series
    ]
    drawn = line_chart(
        scaled, title=f"{chart['title']}: loss against FLOPs", x_title=f"training FLOPs of the stage{power}"
    )
    caption = "What the method needs: only weights that exist are counted, three times the forward pass."
    return _figure("Against FLOPs", scaled, drawn, caption) if drawn else None


def _points(chart: Chart, style: Mapping[str, int], key: str, unit: str, x_title: str, title: str) -> Figure | None:
    costs = [cost for cost in chart["costs"] if cost[key] is not None]
    if not costs or (key == "flops" and not any(cost["begins_with"] for cost in costs)):
        return None
    size, power = _unit(max(cost[key] for cost in costs))
    if unit:
        size, power = next(((s, f", {n}") for s, n in ((1e9, "GB"), (1e6, "MB")) if size >= s), (1e3, ", kB"))
    points = [
        ScatterPoint(
            label=cost["label"],
            x=cost[key] / size,
            y=cost["loss"]["mean"],
            spread=cost["loss"]["spread"],
            style=style.get(cost["label"], 0),
        )
        for cost in costs
    ]
    drawn = point_chart(points, title=f"{chart['title']}: {title.lower()}", x_title=f"{x_title}{power}")
    whiskers = " Whiskers: one standard deviation over the seeds." if any(point.spread for point in points) else ""
    caption = f"Loss on held-out data at the end of the stage.{whiskers}"
    return {"title": title, "drawn": drawn, "caption": caption}


def _figure(title: str, series: Sequence[LineSeries], drawn: Markup, caption: str) -> Figure:
    cut = " The steep start lies above the frame." if shown_range(series)[2] else ""
    return {"title": title, "drawn": drawn, "caption": caption + cut}


def _series(chart: Chart, style: Mapping[str, int], *, flops: bool = False) -> list[LineSeries]:
    found = []
    for curve in chart["curves"]:
        factor = curve["flops_per_token"] if flops else 1.0
        if factor is None:
            continue
        points = [(x * factor, y) for x, y, _ in curve["points"]]
        shaded = curve["kind"] == "valid" and any(spread for *_, spread in curve["points"])
        band = [(x * factor, y - spread, y + spread) for x, y, spread in curve["points"]] if shaded else []
        number = style.get(curve["label"], 0)
        found.append(LineSeries(label=curve["label"], points=points, kind=curve["kind"], style=number, band=band))
    return found


def _unit(largest: float) -> tuple[float, str]:
    """A power of a thousand that makes a number readable, and how an axis says it."""
    power = 3 * int(math.log10(largest) // 3) if largest >= 1000 else 0
    return 10.0**power, f", 1e{power}" if power else ""


def _stages(stages: Sequence[Mapping[str, Any]], *, several: bool) -> dict[str, Any] | None:
    if not stages:
        return None
    longest = max((state["seconds"] or 0.0 for state in stages), default=0.0)
    unit = {"unit": "min", "scale": 60} if longest >= 600 else {"unit": "s"}
    columns = [
        {"key": "stage", "title": "stage"},
        *([{"key": "run", "title": "run"}] if several else []),
        {"key": "status", "title": "status"},
        {"key": "steps", "title": "steps", "digits": 0},
        {"key": "tokens", "title": "tokens", "digits": 0},
        {"key": "loss", "title": "last loss", "digits": 3},
        {"key": "seconds", "title": "training time", "digits": 1, **unit},
    ]
    rows = [
        {
            **state,
            "stage": state["label"],
            "steps": state["steps"] if state["status"] != "not begun" else None,
            "tokens": state["tokens"] if state["status"] != "not begun" else None,
        }
        for state in stages
    ]
    open_ones = [state for state in stages if state["status"] != "finished"]
    return {
        "is_open": bool(open_ones),
        "summary": f"{len(stages) - len(open_ones)} of {len(stages)} finished",
        "table": table_view({"columns": columns, "rows": rows}, {}),
    }
